"""`python -m hicl`, and so `torchrun -m hicl`."""

from hicl.commands import main

if __name__ == "__main__":
    main()
