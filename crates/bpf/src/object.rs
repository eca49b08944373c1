//! A compiled object (`objects/*.o`, from `c/*.c`) on its way into the kernel: parsed and relocated by aya, its maps made,
//! its programs loaded. What is loaded lives as long as the value and the links made of it.

use std::fmt;
use std::os::fd::{AsFd, BorrowedFd};

use aya::maps::{Map, MapError};
use aya::programs::{Program, ProgramError};
use aya::{Ebpf, EbpfError, EbpfLoader};

use crate::sys;
use crate::{Error, Result};

/// An object whose maps are in the kernel; its programs follow one by one ([`Object::load_program`]).
pub(crate) struct Object {
    name: &'static str,
    ebpf: Ebpf,
}

impl fmt::Debug for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Object").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Object {
    /// Makes the maps of an object, after `prepare` gave its constants their values and its maps their sizes.
    ///
    /// `name` is for errors only. Needs CAP_BPF (before 5.8 CAP_SYS_ADMIN).
    pub(crate) fn open<'a>(
        name: &'static str,
        bytes: &[u8],
        prepare: impl FnOnce(&mut EbpfLoader<'a>),
    ) -> Result<Object> {
        let mut loader = EbpfLoader::new();
        // No program here is relocated against the kernel's own types.
        loader.btf(None);
        prepare(&mut loader);
        let ebpf = sys::with_memlock(|| loader.load(bytes))
            .map_err(|e| Error::loading(format!("load the maps of {name}"), e))?;
        Ok(Object { name, ebpf })
    }

    /// Has the kernel verify and load a program of this object.
    pub(crate) fn load_program(&mut self, program: &str) -> Result<()> {
        let name = self.name;
        let found = self.ebpf.program_mut(program);
        let loaded = match found.ok_or_else(|| lacks(name, program))? {
            Program::SchedClassifier(classifier) => sys::with_memlock(|| classifier.load()),
            _ => Err(ProgramError::UnexpectedProgramType),
        };
        loaded.map_err(|e| Error::loading(format!("load the program {program}"), EbpfError::from(e)))
    }

    /// A loaded program.
    pub(crate) fn program(&self, program: &str) -> Result<BorrowedFd<'_>> {
        let found = self.ebpf.program(program).ok_or_else(|| lacks(self.name, program))?;
        found
            .fd()
            .map(AsFd::as_fd)
            .map_err(|e| Error::loading(format!("use the program {program}"), EbpfError::from(e)))
    }

    /// A map, to be read.
    pub(crate) fn map(&self, map: &str) -> Result<&Map> {
        self.ebpf.map(map).ok_or_else(|| lacks(self.name, map))
    }

    /// A map, to be kept elsewhere.
    pub(crate) fn take_map(&mut self, map: &str) -> Result<Map> {
        self.ebpf.take_map(map).ok_or_else(|| lacks(self.name, map))
    }

    /// A map, to be changed.
    pub(crate) fn map_mut(&mut self, map: &str) -> Result<&mut Map> {
        let name = self.name;
        self.ebpf.map_mut(map).ok_or_else(|| lacks(name, map))
    }
}

fn lacks(object: &str, what: &str) -> Error {
    Error::Lacks { object: object.to_owned(), what: what.to_owned() }
}

/// What a map said, wrapped into what was being done.
pub(crate) fn map_error(what: impl Into<String>) -> impl FnOnce(MapError) -> Error {
    |error| Error::loading(what, EbpfError::from(error))
}
