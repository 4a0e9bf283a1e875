//! The target `fuzz::pipo_version2` for libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|octets: &[u8]| {
    fuzz::pipo_version2(octets);
});
