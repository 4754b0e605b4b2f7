provider "aws" {
  region                      = "eu-central-1"
  access_key                  = "none"
  secret_key                  = "none"
  skip_credentials_validation = true
  skip_metadata_api_check     = true
  skip_requesting_account_id  = true
}

variables {
  remote = {
    name        = "dev"
    bucket      = { id = "my-fleet", arn = "arn:aws:s3:::my-fleet" }
    key         = "npcnix/remotes/dev.npcnix"
    url         = "s3://my-fleet/npcnix/remotes/dev.npcnix"
    eventbridge = true
  }
}

run "a_message_for_a_publish_a_failure_and_a_recovery_and_for_nothing_else" {
  command = plan

  assert {
    condition = { for kind, rule in aws_cloudwatch_event_rule.tell : kind => jsondecode(rule.event_pattern) } == { for kind, key in {
      published = "npcnix/remotes/dev.npcnix"
      failed    = { prefix = "npcnix/remotes/dev.npcnix.acks/failed/" }
      recovered = { prefix = "npcnix/remotes/dev.npcnix.acks/recovered/" }
      } : kind => {
      source        = ["aws.s3"]
      "detail-type" = ["Object Created"]
      detail        = { bucket = { name = ["my-fleet"] }, object = { key = [key] } }
    } }
    error_message = "The rules match something else than new objects of this remote, of failed/ and of recovered/."
  }
  assert {
    condition     = alltrue([for kind, name in output.rule_names : name == "npcnix-dev-${substr(sha256("s3://my-fleet/npcnix/remotes/dev.npcnix"), 0, 8)}-${kind}"])
    error_message = "The rules are not named for the remote, a hash of its URL and what they tell."
  }
  assert {
    condition     = aws_cloudwatch_event_target.text["failed"].input_transformer[0].input_template == "\"npcnix: a host of dev rejected a version or rolled it back. s3://<bucket>/<key>\""
    error_message = "A mail does not say in a line what happened and where to look."
  }
  assert {
    condition     = length(aws_sns_topic_subscription.email) == 0 && length(aws_sns_topic.chat) == 0 && length(aws_cloudwatch_event_connection.webhook) == 0
    error_message = "A message goes to an address that nobody named."
  }
}

run "mail_slack_and_a_webhook" {
  command = plan
  variables {
    tell    = ["failed"]
    emails  = ["ops@example.org", "oncall@example.org"]
    slack   = { workspace_id = "T012AB3C4", channel_id = "C012AB3CD" }
    webhook = { url = "https://chat.example.org/hooks/1", secret = "s3cret" }
    tags    = { team = "blue" }
  }

  assert {
    condition     = keys(aws_cloudwatch_event_rule.tell) == ["failed"] && keys(aws_cloudwatch_event_target.text) == ["failed"]
    error_message = "More is told than was asked for."
  }
  assert {
    condition     = alltrue([for address, mail in aws_sns_topic_subscription.email : mail.protocol == "email" && mail.endpoint == address]) && length(aws_sns_topic_subscription.email) == 2
    error_message = "The addresses are not subscribed."
  }
  assert {
    condition = jsondecode(aws_cloudwatch_event_target.chat["failed"].input_transformer[0].input_template) == {
      version = "1.0"
      source  = "custom"
      content = { title = "npcnix: a host of dev rejected a version or rolled it back", description = "s3://<bucket>/<key>" }
    }
    error_message = "Slack's message is not a custom notification of AWS' integration."
  }
  assert {
    condition     = aws_chatbot_slack_channel_configuration.chat[0].guardrail_policy_arns == toset(["arn:aws:iam::aws:policy/AWSDenyAll"]) || aws_chatbot_slack_channel_configuration.chat[0].guardrail_policy_arns == tolist(["arn:aws:iam::aws:policy/AWSDenyAll"])
    error_message = "The channel may do more than be written to."
  }
  assert {
    condition     = jsondecode(aws_cloudwatch_event_target.webhook["failed"].input_transformer[0].input_template) == { text = "npcnix: a host of dev rejected a version or rolled it back. s3://<bucket>/<key>" }
    error_message = "The webhook gets another text."
  }
  assert {
    condition     = aws_sns_topic.text.tags == tomap({ team = "blue", "npcnix:remote" = "s3://my-fleet/npcnix/remotes/dev.npcnix" })
    error_message = "The topic has other tags."
  }
}

run "names_stay_within_their_limits" {
  command = plan
  variables {
    webhook = { url = "https://chat.example.org/hooks/1" }
    slack   = { workspace_id = "T012AB3C4", channel_id = "C012AB3CD" }
    remote = {
      name        = "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"
      bucket      = { id = "my-fleet", arn = "arn:aws-cn:s3:::my-fleet" }
      key         = "npcnix/remotes/long.npcnix"
      url         = "s3://my-fleet/npcnix/remotes/long.npcnix"
      eventbridge = true
    }
  }

  assert {
    condition     = alltrue([for name in concat(values(output.rule_names), [aws_iam_role.chat[0].name, aws_iam_role.webhook[0].name, aws_cloudwatch_event_connection.webhook[0].name]) : length(name) <= 64])
    error_message = "A name is longer than AWS accepts."
  }
}

run "a_dot_in_the_name_of_a_remote_is_a_dash_in_those_of_topics" {
  command = plan
  variables {
    slack = { workspace_id = "T012AB3C4", channel_id = "C012AB3CD" }
    remote = {
      name        = "dev.eu"
      bucket      = { id = "my-fleet", arn = "arn:aws:s3:::my-fleet" }
      key         = "npcnix/remotes/dev.eu.npcnix"
      url         = "s3://my-fleet/npcnix/remotes/dev.eu.npcnix"
      eventbridge = true
    }
  }

  assert {
    condition     = alltrue([for name in [aws_sns_topic.text.name, aws_sns_topic.chat[0].name, aws_chatbot_slack_channel_configuration.chat[0].configuration_name] : can(regex("^npcnix-dev-eu-[A-Za-z0-9_-]+$", name))])
    error_message = "A name has characters that SNS or Amazon Q Developer does not accept."
  }
}

run "a_bucket_that_tells_eventbridge_of_nothing_is_refused" {
  command = plan
  variables {
    remote = {
      name        = "dev"
      bucket      = { id = "my-fleet", arn = "arn:aws:s3:::my-fleet" }
      key         = "npcnix/remotes/dev.npcnix"
      url         = "s3://my-fleet/npcnix/remotes/dev.npcnix"
      eventbridge = false
    }
  }
  expect_failures = [var.remote]
}

run "what_is_mistyped_is_refused" {
  command = plan
  variables {
    tell    = ["failures"]
    emails  = ["ops"]
    slack   = { workspace_id = "my workspace", channel_id = "#ops" }
    webhook = { url = "http://chat.example.org" }
  }
  expect_failures = [var.tell, var.emails, var.slack, var.webhook]
}
