//! Reports that were saved, to be compared with.

use multicredit_domain::Timestamp;
use sea_orm::{ActiveValue::Set, ColumnTrait, EntityTrait, QueryFilter, QueryOrder, sea_query::OnConflict};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::assess::Assessment;
use super::measured::Measured;
use crate::clock;
use crate::entity::performance_reports::{ActiveModel, Column, Entity, Model};
use crate::error::StoreError;
use crate::store::Store;

/// What was measured, and what was made of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PerformanceReport {
    /// The figures.
    pub measured: Measured,
    /// The judgement.
    pub assessment: Assessment,
}

impl Store {
    /// Keeps a report. With a period it is kept once for that period, whoever comes first; answers whether this one was.
    pub async fn save_performance_report(
        &self,
        report: &PerformanceReport,
        period: Option<&str>,
    ) -> Result<bool, StoreError> {
        let content = serde_json::to_value(report).map_err(|error| StoreError::Internal(error.to_string()))?;
        let row = ActiveModel {
            id: Set(clock::new_uuid()),
            created_at: Set(report.measured.at),
            period: Set(period.map(str::to_owned)),
            grade: Set(report.assessment.grade.clone()),
            content: Set(content),
        };
        let conflict = OnConflict::column(Column::Period).do_nothing().to_owned();
        let saved = Entity::insert(row).on_conflict(conflict).exec_without_returning(self.database()).await?;
        Ok(saved > 0)
    }

    /// Whether there is a report of that period.
    pub async fn has_performance_report(&self, period: &str) -> Result<bool, StoreError> {
        let row = Entity::find().filter(Column::Period.eq(period)).one(self.database()).await?;
        Ok(row.is_some())
    }

    /// The newest report that was saved no later than that; the newest of all without.
    pub async fn saved_performance_report(
        &self,
        no_later_than: Option<Timestamp>,
    ) -> Result<Option<PerformanceReport>, StoreError> {
        let mut query = Entity::find().order_by_desc(Column::CreatedAt).order_by_desc(Column::Id);
        if let Some(at) = no_later_than {
            query = query.filter(Column::CreatedAt.lte(at));
        }
        query.one(self.database()).await?.map(read).transpose()
    }

    /// A report by its id.
    pub async fn performance_report(&self, id: Uuid) -> Result<Option<PerformanceReport>, StoreError> {
        Entity::find_by_id(id).one(self.database()).await?.map(read).transpose()
    }
}

fn read(row: Model) -> Result<PerformanceReport, StoreError> {
    serde_json::from_value(row.content)
        .map_err(|error| StoreError::Internal(format!("the report {} cannot be read: {error}", row.id)))
}
