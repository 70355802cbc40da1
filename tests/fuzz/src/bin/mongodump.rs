//! Fuzz target: see `mongodump` in `targets.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    belay_fuzz::mongodump(bytes);
});
