#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| fanin_fuzz::run(fanin::fuzz::auto, data));
