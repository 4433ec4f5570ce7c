# Packs a weir with the libraries and drivers of this machine, so that it runs where there is no DPDK.
# shellcheck shell=bash

# pack BINARY FOLDER DRIVER…: puts bin/weir, lib/, pmds/ and the command `weir` there. A driver that this machine's DPDK
# does not have is left out.
pack() {
    local binary=$1 bundle=$2 eal version pmds driver library loader
    shift 2
    mkdir -p "$bundle"/{bin,lib,pmds}
    cp "$binary" "$bundle/bin/weir"
    eal=$(ldd "$binary" | awk '/librte_eal/ {print $3}')
    version=$(readlink -f "$eal" | sed 's/.*\.so\.//')
    pmds=$(find "$(dirname "$(readlink -f "$eal")")" -type d -name "pmds-$version" | head -n 1)
    [[ -n $pmds ]] || {
        echo "error: no drivers beside $eal: apt-get install libdpdk-dev" >&2
        return 1
    }
    for driver; do
        library=librte_$driver.so.$version
        if [[ -e $pmds/$library ]]; then
            cp -L "$pmds/$library" "$bundle/lib/"
            # One file: what one driver needs of another must not be loaded again as a driver.
            ln -sf "../lib/$library" "$bundle/pmds/"
            ln -sf "$library" "$bundle/lib/${library%.*}"
        fi
    done

    # Every library of the binary and of the drivers, the C library and its loader too.
    ldd "$binary" "$bundle"/pmds/* 2>/dev/null | awk '$2 == "=>" && $3 ~ "^/" {print $3} $1 ~ "^/.*ld-" {print $1}' | sort -u |
        while read -r library; do [[ -e $bundle/lib/${library##*/} ]] || cp -L "$library" "$bundle/lib/"; done
    only_own_drivers "$bundle/lib/${eal##*/}"
    loader=$(basename "$(ldd "$binary" | awk '$1 ~ "^/.*ld-" {print $1}')")
    cat >"$bundle/weir" <<END
#!/bin/sh
# weir with the libraries and drivers of its bundle.
here=\$(cd "\$(dirname "\$(readlink -f "\$0")")" && pwd)
WEIR_DRIVERS=\${WEIR_DRIVERS:-\$here/pmds} exec "\$here/lib/$loader" --library-path "\$here/lib" "\$here/bin/weir" "\$@"
END
    chmod +x "$bundle/weir"
}

# only_own_drivers EAL: takes the folder of the distribution's drivers out of a packed librte_eal. The EAL loads every
# driver there before those of its arguments, and has no switch against that: a driver that is in both folders would
# register itself twice, which ends the process ("tailq is already registered").
only_own_drivers() {
    /usr/bin/python3 - "$1" <<'END'
import pathlib, re, sys

library = pathlib.Path(sys.argv[1])
code = library.read_bytes()
# RTE_EAL_PMD_PATH, a C string. Empty, it means none.
patched, found = re.subn(rb"(?<=\0)/[^\0]*/pmds-[0-9.]+(?=\0)", lambda path: bytes(len(path[0])), code)
if found != 1:
    sys.exit(f"error: {library}: {found} folders of drivers where one was expected")
library.write_bytes(patched)
END
}
