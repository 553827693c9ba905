//! The auth service. There are no users and roles: a client's token is its password (`crate::entry`), and grants what
//! `starling token add` chose.

use starling_etcd_proto::etcdserverpb as pb;
use starling_etcd_proto::etcdserverpb::auth_server::Auth;
use tonic::{Request, Response, Status};

use crate::entry::Entry;
use crate::failure::unsupported;
use crate::keyspace::Keyspace;

const NO_USERS: &str =
    "there are no users and roles: `starling token add NAME` makes a token, which is the password of NAME";

/// The service.
pub struct AuthService {
    /// With the rights of the caller.
    pub keyspace: Keyspace,
    /// What checks tokens.
    pub entry: Entry,
}

type Unsupported = Result<Response<pb::Unsupported>, Status>;

#[tonic::async_trait]
impl Auth for AuthService {
    async fn auth_status(
        &self,
        _: Request<pb::AuthStatusRequest>,
    ) -> Result<Response<pb::AuthStatusResponse>, Status> {
        let group = self.keyspace.status().await?;
        // etcd's store of users begins at revision 1, and this one never changes.
        let header = self.keyspace.header(group.revision);
        let enabled = self.entry.needs_token();
        Ok(Response::new(pb::AuthStatusResponse { header, enabled, auth_revision: 1 }))
    }

    async fn auth_disable(
        &self,
        _: Request<pb::AuthDisableRequest>,
    ) -> Result<Response<pb::AuthDisableResponse>, Status> {
        if self.entry.needs_token() {
            return Err(unsupported("tokens are needed by the setting api.anonymous of each node"));
        }
        let group = self.keyspace.status().await?;
        Ok(Response::new(pb::AuthDisableResponse { header: self.keyspace.header(group.revision) }))
    }

    async fn user_list(
        &self,
        _: Request<pb::AuthUserListRequest>,
    ) -> Result<Response<pb::AuthUserListResponse>, Status> {
        let group = self.keyspace.status().await?;
        Ok(Response::new(pb::AuthUserListResponse {
            header: self.keyspace.header(group.revision),
            users: Vec::new(),
        }))
    }

    async fn role_list(
        &self,
        _: Request<pb::AuthRoleListRequest>,
    ) -> Result<Response<pb::AuthRoleListResponse>, Status> {
        let group = self.keyspace.status().await?;
        Ok(Response::new(pb::AuthRoleListResponse {
            header: self.keyspace.header(group.revision),
            roles: Vec::new(),
        }))
    }

    async fn auth_enable(&self, _: Request<pb::Unsupported>) -> Unsupported {
        Err(Status::failed_precondition("etcdserver: root user does not exist"))
    }

    async fn authenticate(
        &self,
        request: Request<pb::AuthenticateRequest>,
    ) -> Result<Response<pb::AuthenticateResponse>, Status> {
        let pb::AuthenticateRequest { name, password } = request.into_inner();
        let token = self.entry.authenticate(&name, password).await?;
        Ok(Response::new(pb::AuthenticateResponse { header: self.keyspace.header(0), token }))
    }

    async fn user_get(&self, _: Request<pb::Unsupported>) -> Unsupported {
        Err(Status::failed_precondition("etcdserver: user name not found"))
    }

    async fn role_get(&self, _: Request<pb::Unsupported>) -> Unsupported {
        Err(Status::failed_precondition("etcdserver: role name not found"))
    }

    async fn user_add(&self, _: Request<pb::Unsupported>) -> Unsupported {
        Err(unsupported(NO_USERS))
    }

    async fn user_delete(&self, _: Request<pb::Unsupported>) -> Unsupported {
        Err(unsupported(NO_USERS))
    }

    async fn user_change_password(&self, _: Request<pb::Unsupported>) -> Unsupported {
        Err(unsupported(NO_USERS))
    }

    async fn user_grant_role(&self, _: Request<pb::Unsupported>) -> Unsupported {
        Err(unsupported(NO_USERS))
    }

    async fn user_revoke_role(&self, _: Request<pb::Unsupported>) -> Unsupported {
        Err(unsupported(NO_USERS))
    }

    async fn role_add(&self, _: Request<pb::Unsupported>) -> Unsupported {
        Err(unsupported(NO_USERS))
    }

    async fn role_delete(&self, _: Request<pb::Unsupported>) -> Unsupported {
        Err(unsupported(NO_USERS))
    }

    async fn role_grant_permission(&self, _: Request<pb::Unsupported>) -> Unsupported {
        Err(unsupported(NO_USERS))
    }

    async fn role_revoke_permission(&self, _: Request<pb::Unsupported>) -> Unsupported {
        Err(unsupported(NO_USERS))
    }
}
