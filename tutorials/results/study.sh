#!/bin/sh
# All runs of the study (tutorials/study.md), in the order of their importance. Each line continues where it stopped, and one
# that is done takes seconds; a later line adds systems to the same folder. Data: --data-dir or MINISNN_DATA.
set -e
minisnn ablate --models or syna-t --seeds 0 1 2 3 4 --out runs/study-digits
minisnn ablate --models or syna-t sew-add --seeds 0 1 2 3 4 --out runs/study-digits
minisnn ablate --dataset nmnist --width 16 --timesteps 10 --epochs 30 --folds 10 --models or syna-t --seeds 1 2 3 4 5 --out runs/study-nmnist
minisnn ablate --dataset nmnist --width 16 --timesteps 10 --epochs 30 --folds 10 --models or syna-t sew-add --seeds 1 2 3 4 5 --out runs/study-nmnist
minisnn ablate --models or syna-t sew-add ma-t ia-t --seeds 0 1 2 3 4 --out runs/study-digits
minisnn ablate --models syna-t --start pytorch --seeds 0 1 2 3 4 --out runs/study-start
minisnn ablate --dataset nmnist --width 16 --timesteps 10 --epochs 30 --folds 10 --models or syna-t sew-add ma-t ia-t --seeds 1 2 3 --out runs/study-nmnist
minisnn ablate --models or syna-t sew-add ma-t ia-t syna-c syna-s vanilla ms --seeds 0 1 2 3 4 --out runs/study-digits
minisnn ablate --dataset gestures --timesteps 16 --models or syna-t sew-add --seeds 0 1 2 3 4 --out runs/study-gestures
minisnn ablate --dataset fashion-mnist --limit 20000 --stratified --models or syna-t sew-add --seeds 0 1 2 --out runs/study-fashion-mnist
minisnn ablate --models syna-t --positions a b c d --seeds 0 1 2 3 4 --out runs/study-positions
