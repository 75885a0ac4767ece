#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| infisical::fuzzing::ssh_msg_roundtrip(data));
