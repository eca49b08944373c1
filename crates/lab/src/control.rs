//! What the holder answers on the lab's socket ([`snorkel_netns::control`]).

use std::os::fd::OwnedFd;
use std::sync::Arc;

use snorkel_netns::control::{self, Answer, Serving};
use snorkel_netns::os;

use crate::members::Members;
use crate::wire::{Refusal, Request, SOCKET_PREFIX};
use crate::{Error, Result};

/// Claims the lab's name; nobody can connect yet.
pub(crate) fn claim(name: &str) -> Result<OwnedFd> {
    let socket = control::claim(&format!("{SOCKET_PREFIX}{name}"))
        .map_err(|e| Error::os(format!("claim the socket @{SOCKET_PREFIX}{name}"), e))?;
    socket.ok_or_else(|| Error::AlreadyUp(name.to_owned()))
}

/// Answers from now on, on threads of its own.
pub(crate) fn serve(socket: OwnedFd, members: Arc<Members>) -> Result<Serving> {
    let refuse = |error: String| line(&Refusal { error });
    let stranger = refuse("this lab belongs to another user".to_owned());
    let answer = move |request: &[u8]| {
        Some(match serde_json::from_slice(request) {
            Ok(Request::List) => Answer::line(line(&members.list())),
            // The lab is gone whether or not the one who wanted that still listens.
            Ok(Request::Down) => Answer {
                then: Some(Box::new(|| os::exit_now(0))),
                ..Answer::last(line(&members.take_down()))
            },
            Err(e) => Answer::last(refuse(format!("this is no request: {e}"))),
        })
    };
    control::serve(socket, stranger, answer).map_err(|e| Error::os("listen on the lab's socket", e))
}

/// A value on one line. These records have no form that JSON does not have.
fn line(value: &impl serde::Serialize) -> Vec<u8> {
    serde_json::to_vec(value).unwrap_or_default()
}
