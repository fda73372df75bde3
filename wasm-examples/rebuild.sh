#!/bin/sh
# Builds the guest programs and refreshes the committed .wasm files and their sums.
#
#   ./rebuild.sh            build everything, replace the files, rewrite SHA256SUMS
#   ./rebuild.sh --check    only verify the committed files against SHA256SUMS
#
# It uses whichever toolchain is at hand:
#   1. rustup's targets, if `rustup target add wasm32-wasip1 wasm32-wasip2` was done;
#   2. otherwise Debian's rustc-web (no rustup target exists for Debian's Rust): from
#      the folder RUST_WEB_ROOT, or fetched with apt-get and unpacked, not installed,
#      under target/. This way also needs node, for `npx @bytecodealliance/jco`.
set -eu
cd "$(dirname "$0")"

# No builder's folders in panic messages: the files are to be the same wherever
# the same compiler builds them.
remap() { # FOLDER NAME
    RUSTFLAGS="${RUSTFLAGS:-} --remap-path-prefix=$1=$2"
    export RUSTFLAGS
}

if [ "${1:-}" = --check ]; then
    exec sha256sum --check --quiet SHA256SUMS
fi

say() { printf '%s\n' "$*" >&2; }

has_rustup_targets() {
    installed=$(rustup target list --installed 2>/dev/null) || return 1
    printf '%s\n' "$installed" | grep -qx wasm32-wasip1 && printf '%s\n' "$installed" | grep -qx wasm32-wasip2
}

build_with_rustup() {
    say "building with rustup's wasm targets"
    cargo build --release --target wasm32-wasip1 -p hello-cli
    cargo build --release --target wasm32-wasip2 --features hello-cli/component
    install -m 644 target/wasm32-wasip1/release/hello-cli.wasm hello-cli.module.wasm
    install -m 644 target/wasm32-wasip2/release/hello-cli.wasm hello-cli.wasm
    install -m 644 target/wasm32-wasip2/release/hello_http.wasm hello-http.wasm
    install -m 644 target/wasm32-wasip2/release/tcp-echo.wasm tcp-echo.wasm
}

# Unpacks Debian's packages into a folder: they would pull in much else if installed.
fetch_rustc_web() {
    root=$PWD/target/rust-web
    if [ ! -x "$root/usr/bin/rustc" ]; then
        say "fetching Debian's rustc-web into $root"
        mkdir -p "$root/deb"
        (cd "$root/deb" && apt-get download rustc-web rust-web-src rust-web-llvm libstd-rust-web-dev \
            libstd-rust-web-1.96 libllvm22 lld-22 liblld-22 libclang-rt-22-dev-wasm32 wasi-libc)
        for package in "$root"/deb/*.deb; do dpkg -x "$package" "$root"; done
    fi
    RUST_WEB_ROOT=$root
}

# The unpacked programs do not find their libraries by themselves.
make_wrappers() {
    wrappers=$PWD/target/rust-web-bin
    mkdir -p "$wrappers"
    for pair in rustc-web:rustc rust-lld:rust-lld wasm-ld:wasm-ld-22 wasm-ld-22:wasm-ld-22; do
        {
            printf '#!/bin/sh\n'
            printf 'LD_LIBRARY_PATH=%s exec %s "$@"\n' \
                "'$RUST_WEB_ROOT/usr/lib/x86_64-linux-gnu:$RUST_WEB_ROOT/usr/lib/llvm-22/lib'" \
                "'$RUST_WEB_ROOT/usr/bin/${pair#*:}'"
        } > "$wrappers/${pair%%:*}"
        chmod +x "$wrappers/${pair%%:*}"
    done
    PATH=$wrappers:$PATH
}

# Debian keeps the C start file and library apart from Rust's own folder.
link_wasi_libc() {
    own=$RUST_WEB_ROOT/usr/lib/rustlib/wasm32-wasip1/lib/self-contained
    mkdir -p "$own"
    for file in crt1-command.o crt1-reactor.o libc.a; do
        [ -e "$own/$file" ] || cp "$RUST_WEB_ROOT/usr/lib/wasm32-wasi/$file" "$own/"
    done
}

cargo_web() {
    RUSTC=rustc-web RUSTC_BOOTSTRAP=1 cargo build --release --target wasm32-wasip1 \
        -Zbuild-std=std,panic_abort "$@"
}

component() { # FILE OUT KIND: wraps a module into a component
    npx --yes @bytecodealliance/jco new "$1" "--wasi-$3" -o "$2" >&2
}

build_with_debian() {
    [ -n "${RUST_WEB_ROOT:-}" ] || fetch_rustc_web
    make_wrappers
    link_wasi_libc
    remap "$RUST_WEB_ROOT/usr/lib/rustlib/src/rust" /rust
    say "building with rustc-web from $RUST_WEB_ROOT"
    built=target/wasm32-wasip1/release
    cargo_web -p hello-cli
    install -m 644 $built/hello-cli.wasm hello-cli.module.wasm
    cargo_web --features hello-cli/component
    component $built/hello-cli.wasm hello-cli.wasm command
    component $built/tcp-echo.wasm tcp-echo.wasm command
    component $built/hello_http.wasm hello-http.wasm reactor
}

remap "$PWD" /guests
remap "${CARGO_HOME:-$HOME/.cargo}" /cargo
if has_rustup_targets; then build_with_rustup; else build_with_debian; fi
sha256sum hello-cli.module.wasm hello-cli.wasm hello-http.wasm tcp-echo.wasm > SHA256SUMS
ls -l ./*.wasm >&2
