//! Fuzz target: see `redis_dump` in `targets.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    belay_fuzz::redis_dump(bytes);
});
