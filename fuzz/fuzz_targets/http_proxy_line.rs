#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| infisical_gateway::fuzzing::http_proxy_line(data));
