//! A conversation in any pieces, read by this decoder.

#![no_main]

use libfuzzer_sys::fuzz_target;
use snorkel_tap::decode::{Conversation, Options, Protocol};
use snorkel_tap::event::{Direction, Time};

fuzz_target!(|pieces: Vec<(bool, Vec<u8>)>| {
    let options = Options { protocol: Some(Protocol::Http1), raw: true, ..Options::default() };
    let mut conversation = Conversation::new(&options);
    let mut said = Vec::new();
    for (to_server, bytes) in &pieces {
        let direction = if *to_server { Direction::ToServer } else { Direction::ToClient };
        let unseen = conversation.blind(direction).min(bytes.len() as u64);
        conversation.pass(direction, Time(1), unseen, &mut said);
        conversation.feed(direction, Time(1), &bytes[unseen as usize..], &mut said);
    }
    for direction in Direction::BOTH {
        conversation.finish(direction, Time(2), &mut said);
    }
});
