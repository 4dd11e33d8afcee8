-- What the product is compared with: a procedure as the seed's performance report describes it (validation, credit
-- check, deduction, log row), as fast as that can be. Of its twelve indexes the duplicates and those that another one
-- covers are left out, and balance rows have room for HOT updates.

CREATE TABLE credit_actions (
    action_type text PRIMARY KEY,
    ai_credits bigint NOT NULL,
    whatsapp_credits bigint NOT NULL,
    email_credits bigint NOT NULL,
    sms_credits bigint NOT NULL,
    is_active boolean NOT NULL
);

CREATE TABLE organization_credits (
    organization_id uuid PRIMARY KEY,
    ai_credits_available bigint NOT NULL,
    whatsapp_credits_available bigint NOT NULL,
    email_credits_available bigint NOT NULL,
    sms_credits_available bigint NOT NULL,
    updated_at timestamptz NOT NULL
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 200,
        autovacuum_vacuum_cost_delay = 0);

CREATE TABLE credit_consumption_logs (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    organization_id uuid NOT NULL,
    action_type text NOT NULL,
    quantity bigint NOT NULL,
    ai_credits_consumed bigint NOT NULL,
    whatsapp_credits_consumed bigint NOT NULL,
    email_credits_consumed bigint NOT NULL,
    sms_credits_consumed bigint NOT NULL,
    success boolean NOT NULL,
    created_at timestamptz NOT NULL
);
CREATE INDEX idx_credits_txn_org_date_composite ON credit_consumption_logs (organization_id, created_at DESC);
CREATE INDEX idx_credits_txn_success ON credit_consumption_logs (success, created_at DESC) WHERE success = true;
CREATE INDEX idx_credits_txn_multi_credit ON credit_consumption_logs
    (ai_credits_consumed, whatsapp_credits_consumed, email_credits_consumed, sms_credits_consumed)
    WHERE ai_credits_consumed > 0 OR whatsapp_credits_consumed > 0 OR email_credits_consumed > 0
        OR sms_credits_consumed > 0;

CREATE FUNCTION seed_consume_credits(organization uuid, action text, quantity bigint) RETURNS jsonb
LANGUAGE plpgsql
AS $function$
DECLARE
    cost credit_actions;
    balance organization_credits;
    consumption uuid;
BEGIN
    SELECT a.* INTO cost FROM credit_actions a WHERE a.action_type = action AND a.is_active;
    IF NOT FOUND THEN
        RETURN jsonb_build_object('success', false, 'error', 'unknown_action');
    END IF;
    SELECT c.* INTO balance FROM organization_credits c WHERE c.organization_id = organization FOR NO KEY UPDATE;
    IF NOT FOUND THEN
        RETURN jsonb_build_object('success', false, 'error', 'unknown_organization');
    END IF;
    IF balance.ai_credits_available < cost.ai_credits * quantity
        OR balance.whatsapp_credits_available < cost.whatsapp_credits * quantity
        OR balance.email_credits_available < cost.email_credits * quantity
        OR balance.sms_credits_available < cost.sms_credits * quantity THEN
        RETURN jsonb_build_object('success', false, 'error', 'insufficient_credits');
    END IF;
    UPDATE organization_credits c
    SET ai_credits_available = c.ai_credits_available - cost.ai_credits * quantity,
        whatsapp_credits_available = c.whatsapp_credits_available - cost.whatsapp_credits * quantity,
        email_credits_available = c.email_credits_available - cost.email_credits * quantity,
        sms_credits_available = c.sms_credits_available - cost.sms_credits * quantity,
        updated_at = now()
    WHERE c.organization_id = organization;
    INSERT INTO credit_consumption_logs (organization_id, action_type, quantity, ai_credits_consumed,
        whatsapp_credits_consumed, email_credits_consumed, sms_credits_consumed, success, created_at)
    VALUES (organization, action, quantity, cost.ai_credits * quantity, cost.whatsapp_credits * quantity,
        cost.email_credits * quantity, cost.sms_credits * quantity, true, now())
    RETURNING id INTO consumption;
    RETURN jsonb_build_object('success', true, 'consumption_id', consumption);
END
$function$;

INSERT INTO credit_actions VALUES ('ai_chat', 1, 0, 0, 0, true);
