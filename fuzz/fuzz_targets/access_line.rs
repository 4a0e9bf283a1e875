//! The target `fuzz::access_line` for libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|octets: &[u8]| {
    fuzz::access_line(octets);
});
