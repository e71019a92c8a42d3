//! Fuzzes `oracles::proxy_protocol`: what must hold for any bytes is written there.
#![no_main]

#[path = "../../proxy/tests/oracles/mod.rs"]
#[expect(dead_code, unused_imports, reason = "each target calls one of them")]
mod oracles;

libfuzzer_sys::fuzz_target!(|data: &[u8]| oracles::proxy_protocol(data));
