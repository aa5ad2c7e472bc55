//! Copies that are made by multipart uploads, and masters that end meanwhile.

use std::sync::Arc;

use headpond_ufs::{Capabilities, Fault, Op, UfsErrorKind};

use super::{
    INTERVAL, Rig,
    plain::{Late, Plain},
};

impl Rig {
    /// Over a store that copies on a condition only by parts.
    async fn by_parts(keys: &[&str]) -> Self {
        let plain = |inner: Arc<dyn headpond_ufs::UnderStore>| {
            let capabilities = Capabilities { conditional_copy: false, ..inner.capabilities().clone() };
            Arc::new(Plain { inner, capabilities, late: Arc::<Late>::default() }) as _
        };
        Self::with(Some(INTERVAL), keys, false, plain).await
    }

    /// Uploads that are noted.
    fn noted(&self) -> usize {
        std::fs::read_dir(self.state.path().join("uploads")).expect("a directory").count()
    }
}

#[tokio::test]
async fn a_copy_by_parts_is_noted_for_as_long_as_it_takes() {
    let rig = Rig::by_parts(&["a"]).await;
    rig.store.script(Op::CopyPart, [Some(Fault::Hang)]);
    rig.rename("/m/a", "/m/b").await.expect("renamed");
    while rig.store.scripted(Op::CopyPart) > 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(rig.noted(), 1);
    // Another is made meanwhile.
    rig.write("/m/c", "bytes").await;
    rig.rename("/m/c", "/m/d").await.expect("renamed");
    while rig.master.core.relocator.pending() > 1 {
        tokio::task::yield_now().await;
    }
    assert_eq!((rig.noted(), rig.keys().await), (1, vec!["a".to_owned(), "d".to_owned()]));
}

#[tokio::test]
async fn what_a_master_leaves_when_it_ends_is_aborted_before_the_next_moves_anything() {
    const FILES: usize = 3;
    let rig = Rig::by_parts(&["old/a", "old/b", "old/c"]).await;
    rig.store.script(Op::CopyPart, [Some(Fault::Hang); FILES]);
    rig.rename("/m/old", "/m/new").await.expect("renamed");
    while rig.store.scripted(Op::CopyPart) > 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(rig.noted(), FILES);
    // More often than it is tried here.
    rig.store.chance(Some(Op::AbortMultipart), 1.0, Fault::Error(UfsErrorKind::Transient));
    let rig = rig.restart(Some(INTERVAL)).await;
    let relocator = &rig.master.core.relocator;
    while relocator.problems().is_empty() {
        assert!(relocator.pending() > 0, "moved although nothing could be aborted");
        tokio::task::yield_now().await;
    }
    assert!(relocator.problems()[0].contains("given up"), "{:?}", relocator.problems());
    assert_eq!((rig.noted(), rig.keys().await), (FILES, ["old/a", "old/b", "old/c"].map(str::to_owned).to_vec()));
    rig.store.heal();
    rig.store.script(Op::AbortMultipart, [None; FILES]);
    relocator.retry_now();
    while relocator.pending() > 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!((rig.store.scripted(Op::AbortMultipart), rig.noted()), (0, 0));
    assert_eq!(rig.keys().await, ["new/a", "new/b", "new/c"]);
}
