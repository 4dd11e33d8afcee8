#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    multicredit::fuzzing::cloud_events(data);
});
