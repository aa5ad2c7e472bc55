//! Extended attributes that users set.

use headpond_types::InodeId;
use rustix::{
    fs::{XattrFlags, getxattr, listxattr, removexattr, setxattr},
    io::Errno,
};

use super::*;

#[test]
fn attributes_are_set_read_listed_and_removed() {
    let source = FakePond::new();
    source.file(InodeId::ROOT, "f", b"x");
    source.dir(InodeId::ROOT, "d");
    let pond = Pond::mount(&source);
    for path in [pond.path("f"), pond.path("d")] {
        let get = |name: &str| {
            let mut buffer = [0; 64];
            getxattr(&path, name, &mut buffer).map(|len| buffer[..len].to_vec())
        };
        assert_eq!(get("user.a"), Err(Errno::NODATA));
        assert_eq!(setxattr(&path, "user.a", b"one", XattrFlags::REPLACE), Err(Errno::NODATA));
        assert_eq!(setxattr(&path, "user.a", b"one", XattrFlags::CREATE), Ok(()));
        assert_eq!(setxattr(&path, "user.a", b"two", XattrFlags::CREATE), Err(Errno::EXIST));
        assert_eq!(setxattr(&path, "user.a", b"three", XattrFlags::REPLACE), Ok(()));
        assert_eq!(setxattr(&path, "user.empty", b"", XattrFlags::empty()), Ok(()));
        assert_eq!((get("user.a"), get("user.empty")), (Ok(b"three".to_vec()), Ok(vec![])));
        assert_eq!(getxattr(&path, "user.a", &mut [0; 2]), Err(Errno::RANGE));
        let mut names = [0; 128];
        let len = listxattr(&path, &mut names).expect("names");
        assert!(names[..len].ends_with(b"user.a\0user.empty\0"), "{:?}", &names[..len]);
        assert_eq!(removexattr(&path, "user.a"), Ok(()));
        assert_eq!(removexattr(&path, "user.a"), Err(Errno::NODATA));
        assert_eq!(get("user.a"), Err(Errno::NODATA));
    }
}
