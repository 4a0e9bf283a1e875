//! The target `fuzz::secrets` for libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|octets: &[u8]| {
    fuzz::secrets(octets);
});
