"""The entry's former place: says where it is now."""

import sys

if __name__ == "__main__":
    print("error: this entry is now python -m jaxcd.import_torch, with the same arguments", file=sys.stderr)
    raise SystemExit(2)
