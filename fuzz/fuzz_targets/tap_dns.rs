//! A conversation in any pieces, read by this decoder; and each piece as a datagram.

#![no_main]

use libfuzzer_sys::fuzz_target;
use snorkel_tap::decode::{Conversation, Datagrams, Options, Protocol};
use snorkel_tap::event::{Direction, Time};

fuzz_target!(|pieces: Vec<(bool, Vec<u8>)>| {
    let options = Options { protocol: Some(Protocol::Dns), raw: true, ..Options::default() };
    let mut conversation = Conversation::new(&options);
    let mut datagrams = Datagrams::new(&options);
    let mut said = Vec::new();
    for (to_server, bytes) in &pieces {
        let direction = if *to_server { Direction::ToServer } else { Direction::ToClient };
        conversation.feed(direction, Time(1), bytes, &mut said);
        datagrams.feed(direction, Time(1), bytes, &mut said);
    }
    for direction in Direction::BOTH {
        conversation.finish(direction, Time(2), &mut said);
    }
});
