//! The target `fuzz::resolv_conf` for libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|octets: &[u8]| {
    fuzz::resolv_conf(octets);
});
