//! What the relay finds in an event of epoll(7): a number of 64 bits, and what it is about.

use super::connection::Side;
use super::slab::Key;

/// What an event of epoll is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Token {
    Control,
    Gate,
    Listener(usize),
    Socket(Key, Side),
}

impl Token {
    const CONTROL: u64 = u64::MAX;
    const GATE: u64 = u64::MAX - 1;
    /// Above all keys: a place has 31 bits and a side.
    const LISTENERS: u64 = u64::MAX - 1024;

    pub(super) fn number(self) -> u64 {
        match self {
            Token::Control => Token::CONTROL,
            Token::Gate => Token::GATE,
            Token::Listener(at) => Token::LISTENERS + at as u64,
            Token::Socket(key, side) => {
                u64::from(key.generation) << 32 | u64::from(key.place) << 1 | side.index() as u64
            }
        }
    }

    pub(super) fn read(number: u64) -> Token {
        match number {
            Token::CONTROL => Token::Control,
            Token::GATE => Token::Gate,
            Token::LISTENERS.. => Token::Listener((number - Token::LISTENERS) as usize),
            _ => {
                let side = if number & 1 == 0 { Side::Client } else { Side::Server };
                let place = (number as u32) >> 1;
                Token::Socket(Key { place, generation: (number >> 32) as u32 }, side)
            }
        }
    }
}
