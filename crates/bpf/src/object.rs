//! A compiled object (`objects/*.o`, from `c/*.c`) on its way into the kernel: parsed and relocated by aya-obj, its maps
//! made, its programs loaded. What is loaded lives as long as the value and the links made of it.
//!
//! aya's own loader is not used: it reads and parses the running kernel's type information (some megabytes) each time,
//! and tries two dozen features of the kernel, for nothing that the programs here need.

use std::collections::{HashMap, HashSet};
use std::ffi::CString;
use std::fmt;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use aya::maps::{Map, MapData, MapError};
use aya::programs::ProgramError;
use aya::{EbpfError, Pod};
use aya_obj::{EbpfSectionKind, VerifierLog};

use crate::sys;
use crate::{Error, Result};

/// The room for the verifier's log of a program that it refuses.
const LOG: usize = 1 << 20;

/// The values of an object's constants and the sizes of its maps, by their names in the source.
#[derive(Default)]
pub(crate) struct Setup<'a> {
    globals: HashMap<&'a str, (&'a [u8], bool)>,
    sizes: HashMap<&'a str, u32>,
}

impl<'a> Setup<'a> {
    /// Gives a constant its value.
    pub(crate) fn global<T: Pod>(&mut self, name: &'a str, value: &'a [T]) -> &mut Setup<'a> {
        // SAFETY: a Pod has no padding and any bytes are a value of it, so its memory may be read as bytes; the slice
        // lives as long as the bytes, and has as many.
        let bytes = unsafe { std::slice::from_raw_parts(value.as_ptr().cast(), size_of_val(value)) };
        self.globals.insert(name, (bytes, true));
        self
    }

    /// Gives a map its number of entries.
    pub(crate) fn entries(&mut self, map: &'a str, entries: u32) -> &mut Setup<'a> {
        self.sizes.insert(map, entries);
        self
    }
}

/// An object whose maps are in the kernel; its programs follow one by one ([`Object::load_program`]).
pub(crate) struct Object {
    name: &'static str,
    code: aya_obj::Object,
    maps: HashMap<String, Map>,
    programs: HashMap<String, OwnedFd>,
}

impl fmt::Debug for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Object").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Object {
    /// Makes the maps of an object. `name` is for errors only. Needs CAP_BPF (before 5.8 CAP_SYS_ADMIN).
    pub(crate) fn open(name: &'static str, bytes: &[u8], setup: Setup<'_>) -> Result<Object> {
        let what = || format!("load the maps of {name}");
        let failed = |e: EbpfError| Error::loading(what(), e);
        let mut code = aya_obj::Object::parse(bytes).map_err(|e| failed(e.into()))?;
        code.patch_map_data(setup.globals).map_err(|e| failed(e.into()))?;
        let mut made = Vec::new();
        for (map, mut definition) in code.maps.drain() {
            if let Some(&entries) = setup.sizes.get(map.as_str()) {
                definition.set_max_entries(entries);
            }
            // The object's types are not loaded into the kernel: nothing here prints a map by them.
            if let aya_obj::Map::Btf(described) = &mut definition {
                described.def.btf_key_type_id = 0;
                described.def.btf_value_type_id = 0;
            }
            let data = sys::with_memlock(|| MapData::create(definition.clone(), &map, None))
                .map_err(|e| failed(e.into()))?;
            let constant = definition.section_kind() == EbpfSectionKind::Rodata;
            if !definition.data().is_empty() {
                sys::fill(data.fd().as_fd(), definition.data(), constant)
                    .map_err(|e| Error::os(what(), e))?;
            }
            made.push((map, definition, data));
        }
        let sections: HashSet<usize> = code.functions.keys().map(|(section, _)| *section).collect();
        let places = made
            .iter()
            .map(|(map, definition, data)| (map.as_str(), data.fd().as_fd().as_raw_fd(), definition));
        code.relocate_maps(places, &sections).map_err(|e| failed(e.into()))?;
        code.relocate_calls(&sections).map_err(|e| failed(e.into()))?;
        let mut maps = HashMap::new();
        for (map, _, data) in made {
            maps.insert(map, Map::from_map_data(data).map_err(|e| failed(e.into()))?);
        }
        Ok(Object { name, code, maps, programs: HashMap::new() })
    }

    /// Has the kernel verify and load a traffic control program of this object.
    pub(crate) fn load_program(&mut self, program: &str) -> Result<()> {
        let what = format!("load the program {program}");
        let lacks = || lacks(self.name, program);
        let found = self.code.programs.get(program).ok_or_else(lacks)?;
        let code = self.code.functions.get(&found.function_key()).ok_or_else(lacks)?;
        let name = CString::new(program).map_err(|_| lacks())?;
        let load = |log: &mut [u8]| {
            sys::with_memlock(|| sys::load_classifier(&name, &found.license, &code.instructions, log))
        };
        let fd = load(&mut []).map_err(|io_error| {
            // Once more, for the reason. What the kernel says of a log that is too long is no reason.
            let mut log = vec![0; LOG];
            let _ = load(&mut log);
            let end = log.iter().position(|&byte| byte == 0).unwrap_or(log.len());
            let verifier_log = VerifierLog::new(String::from_utf8_lossy(&log[..end]).into_owned());
            Error::loading(what, EbpfError::from(ProgramError::LoadError { io_error, verifier_log }))
        })?;
        self.programs.insert(program.to_owned(), fd);
        Ok(())
    }

    /// A loaded program.
    pub(crate) fn program(&self, program: &str) -> Result<BorrowedFd<'_>> {
        self.programs.get(program).map(AsFd::as_fd).ok_or_else(|| lacks(self.name, program))
    }

    /// Has a table of programs (BPF_MAP_TYPE_PROG_ARRAY) lead to a program from a place of it. The kernel empties the table
    /// when no process has it open any more.
    pub(crate) fn set_jump(&self, table: &str, place: u32, to: BorrowedFd<'_>) -> Result<()> {
        let Map::ProgramArray(table) = self.map(table)? else { return Err(lacks(self.name, table)) };
        // A program is given by its descriptor, as a value of four bytes.
        let to = to.as_raw_fd().to_ne_bytes();
        sys::update(table.fd().as_fd(), place, &to)
            .map_err(|e| Error::os("enter a program in a table of programs", e))
    }

    /// A map, to be read.
    pub(crate) fn map(&self, map: &str) -> Result<&Map> {
        self.maps.get(map).ok_or_else(|| lacks(self.name, map))
    }

    /// A map, to be kept elsewhere.
    pub(crate) fn take_map(&mut self, map: &str) -> Result<Map> {
        self.maps.remove(map).ok_or_else(|| lacks(self.name, map))
    }

    /// A map, to be changed.
    pub(crate) fn map_mut(&mut self, map: &str) -> Result<&mut Map> {
        let name = self.name;
        self.maps.get_mut(map).ok_or_else(|| lacks(name, map))
    }
}

fn lacks(object: &str, what: &str) -> Error {
    Error::Lacks { object: object.to_owned(), what: what.to_owned() }
}

/// What a map said, wrapped into what was being done.
pub(crate) fn map_error(what: impl Into<String>) -> impl FnOnce(MapError) -> Error {
    |error| Error::loading(what, EbpfError::from(error))
}
