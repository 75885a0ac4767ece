#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| infisical_pki::fuzzing::x509_extensions(data));
