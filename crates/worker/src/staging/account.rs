//! What this worker has of what others meet in rows and under stores.

use headpond_proto::v1::{self, AccountRequest, AccountResponse, UploadName};
use headpond_types::{Error, ErrorKind, MountId, Result};
use headpond_ufs::{UploadMark, UploadState};

use super::{Stager, later};

/// Most contents, and most uploads, that are asked about at once.
const AT_ONCE: usize = 10_000;

impl Stager {
    /// Which contents are held whole here, and what there is to do with uploads. Knowing the name of one is the right to ask.
    ///
    /// # Errors
    /// `InvalidArgument` for too many.
    pub(crate) fn account(&self, request: AccountRequest) -> Result<AccountResponse> {
        let AccountRequest { contents, uploads } = request;
        if contents.len().max(uploads.len()) > AT_ONCE {
            let message = format!("more than {AT_ONCE} contents or uploads are asked about: ask about fewer at a time");
            return Err(Error::new(ErrorKind::InvalidArgument, message));
        }
        let held = contents.into_iter().map(|content| later::holds(self, content.into()));
        let uploads = uploads.into_iter().map(|UploadName { mount, key, upload }| {
            let state = self.abandoned.state_of(MountId(mount), &UploadMark { key: key.into(), upload });
            let state = match state {
                None => v1::UploadState::Unspecified,
                Some(UploadState::UnderWay) => v1::UploadState::UnderWay,
                Some(UploadState::GivenUp) => v1::UploadState::GivenUp,
            };
            state.into()
        });
        Ok(AccountResponse { held: held.collect(), uploads: uploads.collect() })
    }
}
