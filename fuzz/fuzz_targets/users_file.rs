//! The target `fuzz::users_file` for libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|octets: &[u8]| {
    fuzz::users_file(octets);
});
