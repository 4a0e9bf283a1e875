//! The target `fuzz::dialogue` for libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|octets: &[u8]| {
    fuzz::dialogue(octets);
});
