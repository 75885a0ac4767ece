#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| infisical_config::fuzzing::env_file(data));
