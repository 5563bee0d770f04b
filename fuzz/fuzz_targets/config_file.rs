#![no_main]
#[allow(dead_code, reason = "the targets alone are called")]
#[path = "../../src/cli/mod.rs"]
mod cli;
libfuzzer_sys::fuzz_target!(|data: &[u8]| fanin_fuzz::run(cli::fuzz::config_file, data));
