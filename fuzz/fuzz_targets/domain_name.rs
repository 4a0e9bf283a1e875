//! The target `fuzz::domain_name` for libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|octets: &[u8]| {
    fuzz::domain_name(octets);
});
