//! A capture, of any format.
#![no_main]

use std::io::Cursor;

use snorkel_capture::file::Reader;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Ok(mut reader) = Reader::new(Cursor::new(bytes.to_vec())) else { return };
    while let Ok(Some(packet)) = reader.next() {
        assert!(packet.data.len() <= packet.original_length as usize);
        let interface = packet.interface;
        assert!(reader.comments().count() <= bytes.len());
        assert!(interface < reader.about().interfaces.len());
    }
    assert!(matches!(reader.next(), Ok(None)));
});
