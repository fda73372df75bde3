//! Makes the C library look at the heap before anything else does.
//!
//! The C library of Debian's `wasi-libc` (2022) takes all memory up to the end
//! for its heap when it is first asked for some. In a component the preview-1
//! adapter may by then have put its own page there, and a large allocation
//! would overwrite it. Later versions know the heap's end from the linker; for
//! them this does nothing that matters. Use it as `use early_heap as _;`.

unsafe extern "C" {
    fn malloc(bytes: usize) -> *mut u8;
    fn free(block: *mut u8);
}

extern "C" fn settle() {
    // SAFETY: freed once, right after it was allocated; never looked into.
    unsafe { free(std::hint::black_box(malloc(1))) }
}

// Runs before the C library's own start-up code (50), which calls the adapter.
#[used]
#[unsafe(link_section = ".init_array.00001")]
static SETTLE: extern "C" fn() = settle;
