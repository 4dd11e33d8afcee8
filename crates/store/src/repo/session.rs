//! Sessions of the dashboard. As with API keys, only the digest of a token comes in.

use chrono::TimeDelta;
use multicredit_domain::ApiKeyId;
use sea_orm::ActiveValue::Set;
use sea_orm::{ActiveModelTrait, ColumnTrait, EntityTrait, QueryFilter};

use super::api_key::ApiKey;
use crate::entity::api_keys;
use crate::entity::dashboard_sessions::{ActiveModel, Column, Entity};
use crate::error::StoreError;
use crate::store::Store;

impl Store {
    /// Begins a session of that key, which ends after `lifetime` at the latest. What has ended of others is deleted on
    /// the occasion: nothing else makes rows here, so that is often enough.
    pub async fn begin_session(
        &self,
        token_digest: [u8; 32],
        key: ApiKeyId,
        lifetime: TimeDelta,
    ) -> Result<(), StoreError> {
        let now = self.now().await?;
        Entity::delete_many().filter(Column::ExpiresAt.lte(now)).exec(self.database()).await?;
        let session = ActiveModel {
            token_digest: Set(token_digest.to_vec()),
            api_key_id: Set(key.uuid()),
            created_at: Set(now),
            expires_at: Set(now + lifetime),
        };
        session.insert(self.database()).await?;
        Ok(())
    }

    /// The key of a session, if it goes on: it has not ended, and the key has not been revoked.
    pub async fn session_key(&self, token_digest: &[u8; 32]) -> Result<Option<ApiKey>, StoreError> {
        let now = self.now().await?;
        let found = Entity::find_by_id(token_digest.to_vec())
            .filter(Column::ExpiresAt.gt(now))
            .find_also_related(api_keys::Entity)
            .one(self.reserved())
            .await?;
        let key = found.and_then(|(_, key)| key).filter(|key| key.revoked_at.is_none());
        Ok(key.map(ApiKey::try_from).transpose()?)
    }

    /// Ends a session.
    pub async fn end_session(&self, token_digest: &[u8; 32]) -> Result<(), StoreError> {
        Entity::delete_by_id(token_digest.to_vec()).exec(self.database()).await?;
        Ok(())
    }
}
