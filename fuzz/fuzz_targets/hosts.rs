//! The target `fuzz::hosts` for libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|octets: &[u8]| {
    fuzz::hosts(octets);
});
