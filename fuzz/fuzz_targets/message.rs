//! The target `fuzz::message` for libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|octets: &[u8]| {
    fuzz::message(octets);
});
