//! A lab for the length of a test: with a name that no other has, and gone when the test is.

use std::ops::Deref;
use std::process::ChildStdin;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::client::{down, launch};
use crate::spec::LabSpec;
use crate::wire::Lab;
use crate::{Error, Result};

/// A lab that is taken down when the value is dropped, and by its holder when this process ends without that.
#[derive(Debug)]
pub struct Scoped {
    lab: Lab,
    /// As long as this end is open the holder goes on.
    _tie: ChildStdin,
}

impl Scoped {
    /// Calls a lab up; its name is made of the specification's, this process and a number.
    pub fn up(spec: LabSpec) -> Result<Scoped> {
        static COUNT: AtomicU32 = AtomicU32::new(1);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("{}-{}-{count}", spec.name, std::process::id());
        let (lab, tie) = launch(&LabSpec { tied: true, ..spec.named(name) })?;
        Ok(Scoped { lab, _tie: tie })
    }
}

impl Deref for Scoped {
    type Target = Lab;
    fn deref(&self) -> &Lab {
        &self.lab
    }
}

impl Drop for Scoped {
    fn drop(&mut self) {
        match down(&self.lab.name) {
            Ok(_) | Err(Error::NoSuchLab(_)) => {}
            Err(error) => tracing::warn!("{}", snorkel_netns::chain(&error)),
        }
    }
}
