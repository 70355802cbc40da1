//! Fuzz target: see `compressed` in `targets.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    belay_fuzz::compressed(bytes);
});
