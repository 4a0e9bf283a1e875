//! The target `fuzz::metrics_request` for libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|octets: &[u8]| {
    fuzz::metrics_request(octets);
});
