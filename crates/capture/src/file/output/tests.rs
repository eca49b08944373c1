//! Which files there are, and what is in them.

use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

use super::*;
use crate::file::Reader;
use crate::packet::LinkType;

fn interface(name: &str) -> Interface {
    Interface {
        name: name.to_owned(),
        description: String::new(),
        link_type: LinkType::ETHERNET,
        snaplen: 0,
        mac: None,
        filter: None,
    }
}

const START: u64 = 1_700_000_000_000_000_000;
const SECOND: u64 = 1_000_000_000;

fn packet(number: u64, data: &[u8]) -> Packet<'_> {
    Packet {
        time: Timestamp(START + number * SECOND),
        interface: 0,
        direction: None,
        original_length: data.len() as u32,
        data,
    }
}

fn options(path: PathBuf) -> OutputOptions {
    OutputOptions { path, ..OutputOptions::default() }
}

/// The names in a directory, in their order.
fn names(directory: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// The seconds (since the first packet of all) of a file's packets; the file must be without fault.
fn seconds(path: &Path) -> Vec<u64> {
    let mut reader = Reader::open(path).unwrap();
    let mut found = Vec::new();
    while let Some(packet) = reader.next().unwrap() {
        found.push((packet.time.0 - START) / SECOND);
    }
    found
}

#[test]
fn a_series_by_size_loses_nothing_and_every_file_is_whole_in_itself() {
    for compress in [false, true] {
        let directory = tempfile::tempdir().unwrap();
        let mut output = Output::prepare(OutputOptions {
            rotate: Some(Rotate::Size(10_000)),
            compress,
            ..options(directory.path().join("web.pcapng"))
        })
        .unwrap();
        output.interface(interface("web/eth0")).unwrap();
        output.names([("10.0.0.1".parse().unwrap(), "web".to_owned())]).unwrap();
        assert_eq!(names(directory.path()), [""; 0], "no file before the first packet");
        for number in 0..100 {
            let noise: Vec<u8> = (0..900u64).map(|at| ((at * at * (number + 3)) >> 3) as u8).collect();
            output.packet(&packet(number, &noise)).unwrap();
            if number == 50 {
                assert_eq!(output.interface(interface("db/eth0")).unwrap(), 1);
            }
            let counters = Statistics { received: Some(number + 1), ..Statistics::default() };
            output.statistics(0, counters).unwrap();
        }
        output.finish().unwrap();
        let names = names(directory.path());
        // The noise is not so noisy that nothing can be saved.
        assert!(names.len() >= if compress { 5 } else { 10 }, "{names:?}");
        assert_eq!(output.files(), names.len() as u64);
        let (mut all, mut bytes) = (Vec::new(), 0);
        for (index, name) in names.iter().enumerate() {
            let path = directory.path().join(name);
            let suffix = if compress { ".pcapng.zst" } else { ".pcapng" };
            assert!(
                name.starts_with(&format!("web_{:05}_2023111", index + 1)) && name.ends_with(suffix),
                "{name}"
            );
            let size = fs::metadata(&path).unwrap().len();
            assert!(size <= 10_000, "{name} has {size} bytes");
            bytes += size;
            let found = seconds(&path);
            assert!(!found.is_empty());
            let mut reader = Reader::open(&path).unwrap();
            while reader.next().unwrap().is_some() {}
            let about = reader.about();
            assert_eq!(about.interfaces.len(), if found.iter().any(|&s| s >= 50) { 2 } else { 1 });
            assert_eq!(about.names.len(), 1);
            let received = about.statistics[0].as_ref().unwrap().received;
            assert_eq!(received, found.last().map(|last| last + 1));
            all.extend(found);
        }
        assert!(all.iter().copied().eq(0..100), "{all:?}");
        assert_eq!(output.written(), Written { packets: 100, bytes });
        assert_eq!(output.notes(), [""; 0]);
    }
}

#[test]
fn a_packet_longer_than_a_file_may_be_has_a_file_of_its_own() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("x");
    let mut output =
        Output::prepare(OutputOptions { rotate: Some(Rotate::Size(1)), ..options(path) }).unwrap();
    output.interface(interface("x")).unwrap();
    for number in 0..3 {
        output.packet(&packet(number, &[0; 20_000])).unwrap();
    }
    output.finish().unwrap();
    assert_eq!(names(directory.path()).len(), 3);
}

#[test]
fn a_series_by_time_follows_the_packets_and_the_clock() {
    let directory = tempfile::tempdir().unwrap();
    let rotate = Some(Rotate::Time(Duration::from_secs(10)));
    let path = directory.path().join("x.pcapng");
    let mut output = Output::prepare(OutputOptions { rotate, ..options(path) }).unwrap();
    output.interface(interface("x")).unwrap();
    output.tick(Timestamp(START)).unwrap();
    // The packet of second 12 comes late, and stays in the file that is being written.
    for second in [0, 9, 10, 19, 25, 12, 34, 35, 60] {
        output.packet(&packet(second, b"")).unwrap();
    }
    output.tick(Timestamp(START + 69 * SECOND)).unwrap();
    output.packet(&packet(69, b"")).unwrap();
    output.tick(Timestamp(START + 70 * SECOND)).unwrap();
    let found: Vec<Vec<u64>> =
        names(directory.path()).iter().map(|name| seconds(&directory.path().join(name))).collect();
    assert_eq!(found, [vec![0, 9], vec![10, 19], vec![25, 12, 34], vec![35], vec![60, 69]]);
    output.finish().unwrap();
    assert_eq!(names(directory.path()).len(), 5, "no file without a packet");
}

#[test]
fn only_as_many_files_are_kept_as_were_asked_for() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("x_00001_of_somebody.pcapng"), "").unwrap();
    let rotate = Some(Rotate::Time(Duration::from_secs(1)));
    let path = directory.path().join("x.pcapng");
    let mut output = Output::prepare(OutputOptions { rotate, keep: Some(3), ..options(path) }).unwrap();
    output.interface(interface("x")).unwrap();
    for second in 0..10 {
        output.packet(&packet(second, b"")).unwrap();
        assert!(second > 7 || names(directory.path()).len() <= 4);
        if second == 7 {
            // This name now means something else, which is left alone.
            let file = names(directory.path()).into_iter().find(|name| name.starts_with("x_00007")).unwrap();
            fs::rename(directory.path().join(&file), directory.path().join("moved")).unwrap();
            fs::write(directory.path().join(&file), "not ours").unwrap();
        }
    }
    output.finish().unwrap();
    let left = names(directory.path());
    let starts: Vec<&str> = left.iter().map(|name| name.get(..7).unwrap_or(name)).collect();
    assert_eq!(starts, ["moved", "x_00001", "x_00007", "x_00008", "x_00009", "x_00010"]);
    assert_eq!(output.written().packets, 10);
    assert_eq!(output.notes(), [""; 0]);
}

#[test]
fn one_file_is_there_at_once_and_overwritten_like_any() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("x.pcapng");
    fs::write(&path, vec![0; 100_000]).unwrap();
    let kept = fs::metadata(&path).unwrap().ino();
    let mut output = Output::prepare(options(path.clone())).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().len(), 0);
    output.interface(interface("x")).unwrap();
    output.packet(&packet(3, b"x")).unwrap();
    output.finish().unwrap();
    assert_eq!(seconds(&path), [3]);
    assert_eq!(fs::metadata(&path).unwrap().ino(), kept);
    assert_eq!(output.rights(), Rights::default());
    assert!(output.directory().is_none());
}

#[test]
fn what_is_no_file_is_not_written_to() {
    let directory = tempfile::tempdir().unwrap();
    let inside = |name: &str| directory.path().join(name);
    let refused = |path: PathBuf, words: &str| {
        let error = Output::prepare(options(path)).unwrap_err();
        let mut said = error.to_string();
        if let Some(source) = std::error::Error::source(&error) {
            said = format!("{said}: {source}");
        }
        assert!(said.contains(words), "{said}");
    };
    refused(directory.path().to_owned(), "it is a directory");
    refused("/".into(), "it is a directory");
    refused(inside("missing/x"), "missing: No such file");
    let socket = std::os::unix::net::UnixListener::bind(inside("socket")).unwrap();
    refused(inside("socket"), "neither a file nor a pipe");
    drop(socket);
    symlink("nowhere", inside("dangling")).unwrap();
    refused(inside("dangling"), "No such file");
    // A link of one's own is followed.
    fs::write(inside("target"), "old").unwrap();
    symlink("target", inside("link")).unwrap();
    drop(Output::prepare(options(inside("link"))).unwrap());
    assert_eq!(fs::read(inside("target")).unwrap(), b"");
    // As is a device, if it is not to be rotated.
    let mut output = Output::prepare(options("/dev/null".into())).unwrap();
    output.interface(interface("x")).unwrap();
    output.packet(&packet(0, b"x")).unwrap();
    output.finish().unwrap();
    assert_eq!(output.written().packets, 1);
}

#[test]
fn a_note_tells_of_an_error_in_the_series_directory_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let rotate = Some(Rotate::Size(1000));
    let path = directory.path().join("missing/x");
    assert!(Output::prepare(OutputOptions { rotate, ..options(path) }).is_err());
    let refused = Output::prepare(OutputOptions { rotate, ..options("-".into()) }).unwrap_err();
    assert!(refused.to_string().contains("needs a file's name"), "{refused}");
}

/// Makes a directory as /tmp is, and a user's file and link in it.
fn shared_directory(user: u32) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o1777)).unwrap();
    fs::write(directory.path().join("file"), "old").unwrap();
    fs::write(directory.path().join("other"), "old").unwrap();
    symlink("other", directory.path().join("link")).unwrap();
    for name in ["file", "link"] {
        std::os::unix::fs::lchown(directory.path().join(name), Some(user), Some(user))
            .expect("this test gives files to other users: run it as root");
    }
    directory
}

#[test]
fn strangers_files_and_links_are_not_used_where_anybody_can_put_them() {
    let directory = shared_directory(4242);
    for name in ["file", "link"] {
        let refused = Output::prepare(options(directory.path().join(name))).unwrap_err();
        assert!(refused.to_string().contains("it is another user's"), "{refused}");
    }
    assert_eq!(fs::read(directory.path().join("file")).unwrap(), b"old");
    assert_eq!(fs::read(directory.path().join("other")).unwrap(), b"old");
    // Of the user who asked they are.
    let owner = Some(Owner { uid: 4242, gid: 4242 });
    for name in ["file", "link"] {
        let path = directory.path().join(name);
        drop(Output::prepare(OutputOptions { owner, ..options(path) }).unwrap());
    }
    assert_eq!(fs::read(directory.path().join("other")).unwrap(), b"");
}

#[test]
fn new_files_belong_to_the_user_who_asked_and_old_ones_to_whom_they_did() {
    let directory = tempfile::tempdir().unwrap();
    let owner = Some(Owner { uid: 4242, gid: 4343 });
    let of = |path: &Path| {
        let about = fs::metadata(path).unwrap();
        (about.uid(), about.gid(), about.mode() & 0o777 & !0o022)
    };
    let path = directory.path().join("new");
    let mut output = Output::prepare(OutputOptions { owner, ..options(path.clone()) }).unwrap();
    assert_eq!(output.notes(), [""; 0], "this test gives files to other users: run it as root");
    assert_eq!(of(&path), (4242, 4343, 0o644));
    let old = directory.path().join("old");
    File::create(&old).unwrap();
    let before = of(&old);
    drop(Output::prepare(OutputOptions { owner, ..options(old.clone()) }).unwrap());
    assert_eq!(of(&old), before);

    let rotate = Some(Rotate::Size(1000));
    let series = OutputOptions { owner, rotate, keep: Some(1), ..options(directory.path().join("s")) };
    let mut output = Output::prepare(series).unwrap();
    assert_eq!(output.rights(), Rights { dac_override: false, chown: true, fowner: false });
    output.interface(interface("x")).unwrap();
    output.packet(&packet(0, b"")).unwrap();
    let name = names(directory.path()).into_iter().find(|name| name.starts_with("s_")).unwrap();
    assert_eq!(of(&directory.path().join(name)), (4242, 4343, 0o644));

    // In a directory that is the user's own, root without its capabilities is nobody.
    std::os::unix::fs::chown(directory.path(), Some(4242), Some(4343)).unwrap();
    let series = OutputOptions { owner, rotate, keep: Some(1), ..options(directory.path().join("s")) };
    let rights = Output::prepare(series.clone()).unwrap().rights();
    assert_eq!(rights, Rights { dac_override: true, chown: true, fowner: false });
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o1777)).unwrap();
    let rights = Output::prepare(series).unwrap().rights();
    assert_eq!(rights, Rights { dac_override: false, chown: true, fowner: true });
}

#[test]
fn the_series_goes_on_where_the_directory_was_opened() {
    let directory = tempfile::tempdir().unwrap();
    let (here, there) = (directory.path().join("here"), directory.path().join("there"));
    fs::create_dir(&here).unwrap();
    let rotate = Some(Rotate::Time(Duration::from_secs(1)));
    let mut output = Output::prepare(OutputOptions { rotate, ..options(here.join("x")) }).unwrap();
    output.interface(interface("x")).unwrap();
    output.packet(&packet(0, b"")).unwrap();
    fs::rename(&here, &there).unwrap();
    output.packet(&packet(5, b"")).unwrap();
    output.finish().unwrap();
    assert_eq!(names(&there).len(), 2);
    fs::remove_dir_all(&there).unwrap();
    let gone = output.packets(&[packet(9, b""), packet(9, b"")]).unwrap_err();
    assert!(matches!(&gone, WriteError::Open { lost, .. } if lost.total() == 2), "{gone}");
}

#[test]
fn a_document_of_pieces_is_whole_after_each_of_them_and_a_pipe_gets_its_end_once() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("list");
    let text = || fs::read_to_string(&path).unwrap();
    let mut pieces = Pieces::begin(&path, None, None, b"[", b"]\n").unwrap();
    assert_eq!(text(), "[]\n");
    pieces.piece(b"1").unwrap();
    assert_eq!(text(), "[1]\n");
    pieces.piece(b",2").unwrap();
    assert_eq!((text().as_str(), pieces.written()), ("[1,2]\n", 2));
    pieces.finish().unwrap();
    assert_eq!(text(), "[1,2]\n");
    // What was there before is not.
    drop(Pieces::begin(&path, None, None, b"[", b"]").unwrap());
    assert_eq!(text(), "[]");

    let pipe = dir.path().join("pipe");
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
    let reader = {
        let pipe = pipe.clone();
        std::thread::spawn(move || fs::read_to_string(pipe).unwrap())
    };
    let mut pieces = Pieces::begin(&pipe, None, None, b"[", b"]").unwrap();
    pieces.piece(b"1").unwrap();
    pieces.piece(b",2").unwrap();
    pieces.finish().unwrap();
    drop(pieces);
    assert_eq!(reader.join().unwrap(), "[1,2]");
}

#[test]
fn a_document_for_which_there_is_no_room_says_so_once() {
    let mut pieces = Pieces::begin(Path::new("/dev/full"), None, None, b"", b"]").unwrap();
    let error = pieces.piece(b"1").unwrap_err();
    assert_eq!(error.to_string(), "no room is left for /dev/full");
    pieces.piece(b",2").unwrap();
    pieces.finish().unwrap();
    assert_eq!(pieces.written(), 1);
}
