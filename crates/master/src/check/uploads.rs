//! Multipart uploads that were begun and not ended. Only those that somebody has a note of are known to be ours.

use futures::{StreamExt, stream};
use headpond_proto::v1::{self, AccountRequest, UploadName};
use headpond_types::{ErrorKind, Result};
use headpond_ufs::{UploadMark, UploadState};
use tokio::time::sleep;

use super::{Check, Finding, Kind, MOMENT, Scope, Stopped, path_of};

impl Check {
    /// Those of objects in the scope.
    pub(super) async fn compare_uploads(&mut self, scope: &Scope) -> Result<(), Stopped> {
        let mount = &scope.mount;
        let prefix = mount.object_key(&scope.key);
        let is_wanted = |mark: &UploadMark| {
            let key = mark.key.as_bytes();
            key == prefix.as_bytes() || (scope.is_directory && key.starts_with(prefix.as_bytes()))
        };
        let mut after = None;
        loop {
            let asked = mount.ask("list the uploads of", &prefix, mount.store().await?.uploads(after.as_ref())).await;
            let page = match asked {
                Err(error) if error.kind() == ErrorKind::NotSupported => return Ok(()),
                page => page?.unwrap_or_default(),
            };
            let uploads: Vec<_> = page.uploads.into_iter().filter(is_wanted).collect();
            let given_up = self.count_uploads(scope, uploads).await;
            self.tell_left(scope, given_up).await?;
            after = page.next;
            if after.is_none() {
                return Ok(());
            }
        }
    }

    /// Tells of those that are given up, and there, after a moment still.
    async fn tell_left(&mut self, scope: &Scope, given_up: Vec<(UploadMark, String)>) -> Result<(), Stopped> {
        if given_up.is_empty() {
            return Ok(());
        }
        sleep(MOMENT).await;
        let marks = given_up.into_iter().map(|(mark, _)| mark).collect();
        let mut findings = Vec::new();
        for (mark, whose) in self.states(scope, marks).await.into_iter().filter_map(left) {
            let key = scope.mount.relative(mark.key.as_bytes()).unwrap_or(mark.key.as_bytes());
            let detail = format!("{whose} has given up upload {} and cannot abort it", mark.upload);
            findings.push(Finding { kind: Kind::LeftUpload, path: path_of(&scope.mount, key), detail });
        }
        self.told(findings).await
    }

    /// Counts uploads; gives those that were given up, with whose they are.
    async fn count_uploads(&mut self, scope: &Scope, uploads: Vec<UploadMark>) -> Vec<(UploadMark, String)> {
        let states = self.states(scope, uploads).await;
        for (_, state) in &states {
            match state {
                None => self.sums.uploads_of_others += 1,
                Some((UploadState::UnderWay, _)) => self.sums.uploads_under_way += 1,
                Some((UploadState::GivenUp, _)) => {}
            }
        }
        states.into_iter().filter_map(left).collect()
    }

    /// What the master and the workers know of each.
    async fn states(
        &mut self,
        scope: &Scope,
        uploads: Vec<UploadMark>,
    ) -> Vec<(UploadMark, Option<(UploadState, String)>)> {
        let mount = scope.mount.mount.id;
        let of_master = |mark: UploadMark| {
            let state = self.core.relocator.abandoned.state_of(mount, &mark);
            (mark, state.map(|state| (state, "the master".to_owned())))
        };
        let mut states: Vec<_> = uploads.into_iter().map(of_master).collect();
        if states.iter().all(|(_, state)| state.is_some()) {
            return states;
        }
        let name =
            |mark: &UploadMark| UploadName { mount: mount.0, key: mark.key.0.clone(), upload: mark.upload.clone() };
        let request =
            AccountRequest { contents: Vec::new(), uploads: states.iter().map(|(mark, _)| name(mark)).collect() };
        let (holders, ring) = (&self.core.persister.holders, self.core.workers.ring());
        let answers = stream::iter(ring.members.iter().cloned()).map(|member| {
            let request = request.clone();
            async move {
                let answer = holders.account(member.id, &member.address, request).await;
                (member.id, answer)
            }
        });
        let answers: Vec<_> = answers.buffer_unordered(16).collect().await;
        for (id, answer) in answers {
            let answer = match answer {
                Ok(answer) => answer,
                Err(error) => {
                    self.unseen(error.to_string());
                    continue;
                }
            };
            for ((_, known), state) in states.iter_mut().zip(answer.uploads) {
                let state = match v1::UploadState::try_from(state) {
                    Ok(v1::UploadState::UnderWay) => UploadState::UnderWay,
                    Ok(v1::UploadState::GivenUp) => UploadState::GivenUp,
                    Ok(v1::UploadState::Unspecified) | Err(_) => continue,
                };
                known.get_or_insert_with(|| (state, format!("worker {id}")));
            }
        }
        states
    }
}

fn left((mark, state): (UploadMark, Option<(UploadState, String)>)) -> Option<(UploadMark, String)> {
    state.and_then(|(state, whose)| (state == UploadState::GivenUp).then_some((mark, whose)))
}
