//! Each test runs with the calls of Linux and with the portable ones, in a temporary folder and in each folder
//! that `SYNCSPHERE_TEST_FOLDERS` names (separated by `:`), which may be on other file systems.

use std::collections::BTreeMap;
use std::path::Path;

use tempfile::TempDir;

use super::portable::Portable;
use super::*;

#[expect(clippy::disallowed_methods, reason = "a setting of the tests")]
fn folders() -> Vec<TempDir> {
    let named = std::env::var("SYNCSPHERE_TEST_FOLDERS").unwrap_or_default();
    let named = named.split(':').filter(|folder| !folder.is_empty());
    let named = named.map(|folder| tempfile::tempdir_in(folder).unwrap());
    [tempfile::tempdir().unwrap()].into_iter().chain(named).collect()
}

/// Runs a test with a folder and its disk.
fn each(test: impl Fn(&Path, &dyn Disk)) {
    for folder in folders() {
        let path = folder.path().join("native");
        let disk = RealDisk::<Native>::open_with(&path, "host".to_owned()).unwrap();
        test(&path, &disk);
        let path = folder.path().join("portable");
        let disk = RealDisk::<Portable>::open_with(&path, "host".to_owned()).unwrap();
        test(&path, &disk);
    }
}

fn tree(path: &str) -> Place {
    Place::Tree(LocalPath::new(path))
}

fn kind<T: std::fmt::Debug>(result: Result<T, DiskError>) -> DiskErrorKind {
    result.unwrap_err().kind
}

fn entries(listing: &Listing) -> BTreeMap<&str, Kind> {
    listing
        .entries
        .iter()
        .map(|(name, meta)| (name.as_str(), meta.kind))
        .collect()
}

fn content(disk: &dyn Disk, place: &Place) -> Vec<u8> {
    let mut content = Vec::new();
    let (before, after) = disk
        .read(place, &mut |piece| content.extend_from_slice(piece))
        .unwrap();
    assert_eq!(before, after);
    assert_eq!(before.stamp.size, content.len() as u64);
    content
}

// Windows does not rename a folder that is open.
#[cfg(unix)]
#[test]
fn the_root_is_known_by_its_marker() {
    each(|path, disk| {
        assert_eq!(disk.root().unwrap(), None);
        let made = disk.create_root("one").unwrap();
        assert_eq!(disk.root().unwrap(), Some(made.clone()));
        let other = disk.create_root("other").unwrap();
        assert_eq!((other.device, other.inode), (made.device, made.inode));
        assert_eq!(disk.root().unwrap().unwrap().marker, "other");
        // Another folder at the same path, as when the disk is not mounted.
        std::fs::rename(path, path.with_extension("away")).unwrap();
        std::fs::create_dir(path).unwrap();
        assert_eq!(disk.root().unwrap(), None);
        std::fs::remove_dir(path).unwrap();
        assert_eq!(kind(disk.root()), DiskErrorKind::NotFound);
    });
}

#[cfg(target_os = "linux")]
#[test]
fn a_volume_of_linux_has_what_linux_has() {
    let folder = tempfile::tempdir().unwrap();
    let disk = RealDisk::open(folder.path(), String::new()).unwrap();
    let volume = disk.probe().unwrap();
    assert_eq!(
        volume,
        Volume {
            has_birth: volume.has_birth,
            ..Volume::LINUX
        }
    );
    assert!(disk.settled_before() > 1_700_000_000_000_000_000);
    assert!(disk.space().unwrap().available > 0);
    assert_eq!(std::fs::read_dir(disk.private_path()).unwrap().count(), 4);
}

#[test]
fn entries_are_listed_with_their_kinds() {
    each(|path, disk| {
        std::fs::create_dir_all(path.join("folder/inner")).unwrap();
        std::fs::write(path.join("file"), "content").unwrap();
        let listing = disk.list(&LocalPath::root()).unwrap();
        let expected = BTreeMap::from([("folder", Kind::Folder), ("file", Kind::File)]);
        assert_eq!(entries(&listing), expected);
        assert!(listing.is_stable && listing.unreadable_names.is_empty());
        let file = listing.entries.iter().find(|(name, _)| name == "file").unwrap().1;
        assert_eq!(disk.stat(&tree("/file")).unwrap(), Some(file));
        assert_eq!(file.stamp.size, 7);
        assert_eq!(entries(&disk.list(&LocalPath::new("/folder")).unwrap()).len(), 1);
        assert_eq!(kind(disk.list(&LocalPath::new("/file"))), DiskErrorKind::NotFound);
        assert_eq!(kind(disk.list(&LocalPath::new("/none"))), DiskErrorKind::NotFound);
        assert_eq!(disk.stat(&tree("/file/below")).unwrap(), None);
        assert_eq!(disk.stat(&tree("/none")).unwrap(), None);
        assert_eq!(content(disk, &tree("/file")), b"content");
        assert_eq!(
            kind(disk.read(&tree("/folder"), &mut |_| ())),
            DiskErrorKind::NotFound
        );
    });
}

#[test]
fn the_private_folder_is_not_in_the_tree() {
    each(|_, disk| {
        for path in ["/.syncsphere", "/.syncsphere/root", "/.syncsphere/trash/x"] {
            assert_eq!(kind(disk.stat(&tree(path))), DiskErrorKind::Denied, "{path}");
            assert_eq!(
                kind(disk.list(&LocalPath::new(path))),
                DiskErrorKind::Denied,
                "{path}"
            );
            assert_eq!(
                kind(disk.rename(&tree(path), &tree("/out"))),
                DiskErrorKind::Denied,
                "{path}"
            );
        }
        assert!(disk.list(&LocalPath::root()).unwrap().entries.is_empty());
    });
}

#[cfg(target_os = "linux")]
#[test]
fn links_and_special_files_are_neither_followed_nor_opened() {
    let outside = tempfile::tempdir().unwrap();
    std::fs::create_dir(outside.path().join("inner")).unwrap();
    std::fs::write(outside.path().join("theirs"), "theirs").unwrap();
    let folder = tempfile::tempdir().unwrap();
    let test = |path: &Path, disk: &dyn Disk| {
        std::os::unix::fs::symlink(outside.path(), path.join("link")).unwrap();
        std::os::unix::fs::symlink(outside.path().join("theirs"), path.join("file")).unwrap();
        std::os::unix::fs::symlink("loop", path.join("loop")).unwrap();
        rustix::fs::mkfifoat(rustix::fs::CWD, path.join("pipe"), rustix::fs::Mode::RWXU).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(path.join("socket")).unwrap();
        let listing = disk.list(&LocalPath::root()).unwrap();
        let expected = [
            ("file", Kind::Link),
            ("link", Kind::Link),
            ("loop", Kind::Link),
            ("pipe", Kind::Special),
            ("socket", Kind::Special),
        ];
        assert_eq!(entries(&listing), expected.into());
        for name in ["/file", "/link", "/loop", "/pipe", "/socket", "/link/theirs"] {
            assert_eq!(
                kind(disk.read(&tree(name), &mut |_| ())),
                DiskErrorKind::NotFound,
                "{name}"
            );
            assert_eq!(
                kind(disk.set_executable(&tree(name), true)),
                DiskErrorKind::NotFound,
                "{name}"
            );
        }
        assert_eq!(disk.stat(&tree("/link/theirs")).unwrap(), None);
        assert_eq!(kind(disk.list(&LocalPath::new("/link"))), DiskErrorKind::NotFound);
        assert_eq!(
            kind(disk.list(&LocalPath::new("/link/inner"))),
            DiskErrorKind::NotFound
        );
        assert_eq!(
            kind(disk.create_folder(&LocalPath::new("/link/mine"))),
            DiskErrorKind::NotFound
        );
        disk.create_part("part").unwrap();
        let part = Place::private(Area::Parts, "part");
        for target in ["/link/mine", "/loop/mine"] {
            assert_eq!(kind(disk.rename(&part, &tree(target))), DiskErrorKind::NotFound);
        }
        // A link itself can be moved, as a whole.
        disk.rename(&tree("/link"), &tree("/moved")).unwrap();
        assert_eq!(std::fs::read_link(path.join("moved")).unwrap(), outside.path());
    };
    let native = folder.path().join("native");
    test(
        &native,
        &RealDisk::<Native>::open_with(&native, String::new()).unwrap(),
    );
    let portable = folder.path().join("portable");
    test(
        &portable,
        &RealDisk::<Portable>::open_with(&portable, String::new()).unwrap(),
    );
    assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 2);
    assert_eq!(std::fs::read(outside.path().join("theirs")).unwrap(), b"theirs");
}

#[test]
fn nothing_is_replaced() {
    each(|path, disk| {
        std::fs::write(path.join("a"), "a").unwrap();
        std::fs::write(path.join("b"), "b").unwrap();
        let before = disk.stat(&tree("/a")).unwrap().unwrap().stamp;
        assert_eq!(
            kind(disk.rename(&tree("/a"), &tree("/b"))),
            DiskErrorKind::AlreadyExists
        );
        assert_eq!(
            kind(disk.rename(&tree("/none"), &tree("/c"))),
            DiskErrorKind::NotFound
        );
        assert_eq!(
            kind(disk.rename(&tree("/a"), &tree("/none/a"))),
            DiskErrorKind::NotFound
        );
        let trashed = Place::private(Area::Trash, "1");
        disk.rename(&tree("/a"), &trashed).unwrap();
        let after = disk.stat(&trashed).unwrap().unwrap().stamp;
        if disk.probe().unwrap().stable_inodes {
            assert!(after.is_renamed(&before));
        }
        assert_eq!(disk.stat(&tree("/a")).unwrap(), None);
        let listed = disk.list_area(Area::Trash).unwrap();
        assert_eq!(listed.len(), 1);
        assert_eq!((listed[0].0.as_str(), listed[0].1.stamp.size), ("1", 1));
        assert_eq!(
            kind(disk.create_folder(&LocalPath::new("/b"))),
            DiskErrorKind::AlreadyExists
        );
        disk.purge("1").unwrap();
        assert_eq!(disk.list_area(Area::Trash).unwrap(), []);
        assert_eq!(content(disk, &tree("/b")), b"b");
    });
}

#[test]
fn two_files_change_places_where_the_volume_can() {
    each(|path, disk| {
        std::fs::write(path.join("a"), "a").unwrap();
        disk.create_part("part").unwrap();
        disk.append_part("part", b"ne").unwrap();
        disk.append_part("part", b"w").unwrap();
        let part = Place::private(Area::Parts, "part");
        if disk.probe().unwrap().exchanges {
            assert_eq!(
                kind(disk.exchange(&part, &tree("/none"))),
                DiskErrorKind::NotFound
            );
            disk.exchange(&part, &tree("/a")).unwrap();
            assert_eq!(
                (content(disk, &tree("/a")), content(disk, &part)),
                (b"new".to_vec(), b"a".to_vec())
            );
        } else {
            assert_eq!(
                kind(disk.exchange(&part, &tree("/a"))),
                DiskErrorKind::Unsupported
            );
        }
        disk.remove_part("part").unwrap();
        disk.remove_part("part").unwrap();
    });
}

#[test]
fn folders_are_made_one_by_one_and_removed_when_they_are_empty() {
    each(|_, disk| {
        let (outer, inner) = (LocalPath::new("/a"), LocalPath::new("/a/b"));
        assert_eq!(kind(disk.create_folder(&inner)), DiskErrorKind::NotFound);
        disk.create_folder(&outer).unwrap();
        disk.create_folder(&inner).unwrap();
        assert_eq!(kind(disk.remove_folder(&outer)), DiskErrorKind::NotEmpty);
        disk.sync_folder(&Folder::Tree(outer.clone())).unwrap();
        disk.sync_folder(&Folder::Tree(LocalPath::root())).unwrap();
        disk.sync_folder(&Folder::Private(Area::Trash)).unwrap();
        disk.remove_folder(&inner).unwrap();
        disk.remove_folder(&outer).unwrap();
        assert_eq!(kind(disk.remove_folder(&outer)), DiskErrorKind::NotFound);
    });
}

#[cfg(unix)]
#[test]
fn a_part_gets_the_mode_and_the_time() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().unwrap();
    let disk = RealDisk::open(folder.path(), String::new()).unwrap();
    let old = folder.path().join("old");
    std::fs::write(&old, "old").unwrap();
    std::fs::set_permissions(&old, std::fs::Permissions::from_mode(0o440)).unwrap();
    let at = "2001-02-03T04:05:06.789Z";
    let at: ModifiedAt = serde_json::from_value(at.into()).unwrap();
    let part = Place::private(Area::Parts, "part");
    for (like, executable, mode) in [
        (true, Some(true), 0o550),
        (true, Some(false), 0o440),
        (true, None, 0o440),
    ] {
        disk.create_part("part").unwrap();
        disk.append_part("part", b"new").unwrap();
        disk.dress("part", like.then(|| tree("/old")).as_ref(), Some(at), executable)
            .unwrap();
        disk.sync_file(&part).unwrap();
        disk.sync_volume().unwrap();
        let meta = disk.stat(&part).unwrap().unwrap();
        assert_eq!(meta.stamp.modified, 981_173_106_789_000_000);
        assert_eq!(meta.executable, Some(mode & 0o100 != 0));
        let found = std::fs::metadata(disk.private_path().join("parts/part")).unwrap();
        assert_eq!(found.permissions().mode() & 0o777, mode);
    }
    disk.set_executable(&tree("/old"), true).unwrap();
    assert_eq!(disk.stat(&tree("/old")).unwrap().unwrap().executable, Some(true));
}

#[cfg(target_os = "linux")]
#[test]
#[expect(clippy::print_stderr, reason = "tells that the volume cannot show it")]
fn attributes_of_a_replaced_file_are_kept() {
    let folder = tempfile::tempdir().unwrap();
    let disk = RealDisk::open(folder.path(), String::new()).unwrap();
    let old = folder.path().join("old");
    std::fs::write(&old, "old").unwrap();
    let flags = rustix::fs::XattrFlags::empty();
    if rustix::fs::setxattr(&old, "user.label", b"value", flags).is_err() {
        eprintln!("skipped: the volume has no extended attributes");
        return;
    }
    disk.create_part("part").unwrap();
    disk.dress("part", Some(&tree("/old")), None, None).unwrap();
    let part = disk.private_path().join("parts/part");
    let mut value = [0; 16];
    let length = rustix::fs::getxattr(part, "user.label", &mut value).unwrap();
    assert_eq!(&value[..length], b"value");
}

#[cfg(target_os = "linux")]
#[test]
fn names_that_are_no_utf_8_are_told() {
    use std::os::unix::ffi::OsStrExt as _;
    let folder = tempfile::tempdir().unwrap();
    let disk = RealDisk::open(folder.path(), String::new()).unwrap();
    std::fs::write(folder.path().join(std::ffi::OsStr::from_bytes(b"a\xff")), "").unwrap();
    let listing = disk.list(&LocalPath::root()).unwrap();
    assert_eq!(listing.unreadable_names, ["a\u{fffd}"]);
    assert!(listing.entries.is_empty());
    assert_eq!(
        kind(disk.create_folder(&LocalPath::new(format!("/{}", "x".repeat(256))))),
        DiskErrorKind::BadName
    );
}

/// Folders are opened in the same way where the kernel has no `openat2`.
#[cfg(target_os = "linux")]
#[test]
fn without_openat2_no_link_is_followed_either() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(folder.path().join("a/b")).unwrap();
    std::os::unix::fs::symlink("a", folder.path().join("link")).unwrap();
    let root = Dir::open_ambient_dir(folder.path(), ambient_authority()).unwrap();
    for (path, is_there) in [
        ("a/b", true),
        ("a/c", false),
        ("link/b", false),
        ("a/../a", false),
    ] {
        let opened = linux::open_part_by_part(&root, path).and_then(|folder| Native::meta_of_folder(&folder));
        assert_eq!(opened.is_ok(), is_there, "{path}");
        let expected = Native::open_folder(&root, path).is_ok();
        assert!(path.contains("..") || expected == is_there, "{path}");
    }
}

/// Where the volume has no flag for it, a second name of the file is made, which replaces nothing.
#[test]
fn without_the_flag_nothing_is_replaced_either() {
    for folder in folders() {
        let root = Dir::open_ambient_dir(folder.path(), ambient_authority()).unwrap();
        root.write("a", "a").unwrap();
        root.write("b", "b").unwrap();
        root.create_dir("folder").unwrap();
        let rename = |from, to| rename::rename_without_flag::<Native>(&root, from, &root, to);
        assert_eq!(rename("a", "b").unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(
            rename("folder", "b").unwrap_err().kind(),
            io::ErrorKind::AlreadyExists
        );
        rename("a", "c").unwrap();
        rename("folder", "moved").unwrap();
        let names = |name| root.symlink_metadata(name).is_ok();
        assert!(!names("a") && !names("folder") && names("moved"));
        assert_eq!(
            (root.read("b").unwrap(), root.read("c").unwrap()),
            (b"b".to_vec(), b"a".to_vec())
        );
    }
}

#[test]
fn one_process_has_the_lock() {
    let folder = tempfile::tempdir().unwrap();
    let disk = RealDisk::open(folder.path(), String::new()).unwrap();
    let lock = disk.lock().unwrap();
    assert!(lock.is_some());
    assert!(disk.lock().unwrap().is_none());
    drop(lock);
    assert!(disk.lock().unwrap().is_some());
}

/// A folder that another process exchanges with a link to the outside, again and again.
#[cfg(target_os = "linux")]
#[test]
fn nothing_leaves_the_root_while_a_folder_and_a_link_change_places() {
    use std::sync::atomic::{AtomicBool, Ordering};
    let outside = tempfile::tempdir().unwrap();
    std::fs::write(outside.path().join("file"), "outside").unwrap();
    let folder = tempfile::tempdir().unwrap();
    let disk = RealDisk::open(folder.path(), String::new()).unwrap();
    std::fs::create_dir(folder.path().join("swapped")).unwrap();
    std::fs::write(folder.path().join("swapped/file"), "inside").unwrap();
    std::os::unix::fs::symlink(outside.path(), folder.path().join("link")).unwrap();
    let has_ended = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let root = Dir::open_ambient_dir(folder.path(), ambient_authority()).unwrap();
            for _ in 0..100_000 {
                exchange(&root, "swapped", &root, "link").unwrap();
            }
            has_ended.store(true, Ordering::Relaxed);
        });
        let mut number = 0;
        while !has_ended.load(Ordering::Relaxed) {
            number += 1;
            let mut content = Vec::new();
            let place = tree("/swapped/file");
            if disk
                .read(&place, &mut |piece| content.extend_from_slice(piece))
                .is_ok()
            {
                assert_eq!(content, b"inside");
            }
            let mine = LocalPath::new(format!("/swapped/mine-{number}"));
            if disk.create_folder(&mine).is_ok() {
                let _ = disk.remove_folder(&mine);
            }
        }
    });
    assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 1);
}
