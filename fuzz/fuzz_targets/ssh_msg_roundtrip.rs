#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| infisical_ssh::fuzzing::msg_roundtrip(data));
