//! The target `fuzz::dialogue_split` for libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|octets: &[u8]| {
    fuzz::dialogue_split(octets);
});
