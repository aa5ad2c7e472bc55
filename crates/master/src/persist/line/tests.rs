use super::*;

const LINGER: Duration = Duration::from_secs(1);
const FILE: InodeId = InodeId(7);

fn file(number: u64, content: u128) -> Item {
    Item {
        number,
        identity: number,
        due: Due::Now,
        barrier: false,
        tree: false,
        stores: true,
        replaces: false,
        begun: false,
        elsewhere: false,
        parent: InodeId(1),
        size: 1,
        content: Some(ContentId(content)),
    }
}

fn chosen(line: &mut Line) -> Vec<InodeId> {
    line.choose(Instant::now(), Moves::default(), 10)
}

#[tokio::test(start_paused = true)]
async fn what_is_changed_again_is_left_alone_anew_but_not_for_ever() {
    let mut line = Line::new(LINGER);
    line.update(FILE, Some(file(1, 1)));
    assert_eq!((chosen(&mut line), line.ripens_at()), (vec![], Some(Instant::now() + LINGER)));
    let mut waited = Duration::ZERO;
    for content in 2.. {
        tokio::time::advance(LINGER / 2).await;
        waited += LINGER / 2;
        line.update(FILE, Some(file(1, content)));
        if chosen(&mut line) == [FILE] {
            break;
        }
    }
    assert_eq!(waited, LINGER * 10);
}

#[tokio::test(start_paused = true)]
async fn what_was_changed_while_it_was_persisted_is_left_alone_afterwards() {
    let mut line = Line::new(LINGER);
    line.update(FILE, Some(file(1, 1)));
    tokio::time::advance(LINGER).await;
    assert_eq!(chosen(&mut line), [FILE]);
    line.update(FILE, Some(file(1, 2)));
    line.end(FILE, false);
    assert_eq!(chosen(&mut line), []);
    tokio::time::advance(LINGER).await;
    assert_eq!(chosen(&mut line), [FILE]);
    // The same content again, as after a failure, waits for nothing.
    line.end(FILE, false);
    assert_eq!(chosen(&mut line), [FILE]);
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_for_what_is_left_alone() {
    let mut line = Line::new(LINGER);
    line.update(FILE, Some(file(1, 1)));
    assert!(line.hurry() && !line.hurry());
    assert_eq!(chosen(&mut line), [FILE]);

    let (other, commit) = (InodeId(8), InodeId(9));
    line.update(other, Some(file(2, 2)));
    assert_eq!(chosen(&mut line), []);
    line.update(commit, Some(Item { barrier: true, ..file(3, 3) }));
    assert_eq!(chosen(&mut line), [other], "a commit file waits for it");
}

#[tokio::test(start_paused = true)]
async fn nothing_is_left_alone_while_writers_wait_for_room() {
    let mut line = Line::new(LINGER);
    line.update(FILE, Some(file(1, 1)));
    line.press(Instant::now());
    assert_eq!(chosen(&mut line), [FILE]);
    let (next, last) = (InodeId(8), InodeId(9));
    line.update(next, Some(file(2, 2)));
    assert_eq!(chosen(&mut line), [next], "what comes while they wait does not rest either");
    tokio::time::advance(Duration::from_secs(10)).await;
    line.update(last, Some(file(3, 3)));
    assert_eq!(chosen(&mut line), []);
}
