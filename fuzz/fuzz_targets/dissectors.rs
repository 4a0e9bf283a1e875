//! The target `fuzz::dissectors` for libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|octets: &[u8]| {
    fuzz::dissectors(octets);
});
