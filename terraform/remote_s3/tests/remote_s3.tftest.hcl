variables {
  name = "dev"
  store = {
    bucket = { id = "my-fleet", arn = "arn:aws:s3:::my-fleet" }
    prefix = "npcnix/remotes"
    region = "eu-central-1"
    events = true
    remotes = {
      dev = {
        filename  = "dev.npcnix"
        key       = "npcnix/remotes/dev.npcnix"
        url       = "s3://my-fleet/npcnix/remotes/dev.npcnix"
        topic_arn = "arn:aws:sns:eu-central-1:123456789012:npcnix-my-fleet-npcnix-remotes-dev"
      }
    }
  }
}

run "a_remote_is_the_stores_facts_about_its_name" {
  command = plan

  assert {
    condition     = [output.name, output.filename, output.key, output.url, output.region] == ["dev", "dev.npcnix", "npcnix/remotes/dev.npcnix", "s3://my-fleet/npcnix/remotes/dev.npcnix", "eu-central-1"]
    error_message = "The remote's name, file name, key, URL or region is not the store's."
  }
  assert {
    condition     = output.bucket == { id = "my-fleet", arn = "arn:aws:s3:::my-fleet" } && output.store.prefix == "npcnix/remotes" && output.kms_key_arn == null
    error_message = "The bucket, store or key is not the given one."
  }
  assert {
    condition     = output.events && output.topic_arn == "arn:aws:sns:eu-central-1:123456789012:npcnix-my-fleet-npcnix-remotes-dev"
    error_message = "The store's topic is not the remote's."
  }
}

run "a_remote_of_a_polled_store_has_no_topic" {
  command = plan
  variables {
    store = {
      bucket = { id = "my-fleet", arn = "arn:aws:s3:::my-fleet" }
      prefix = "npcnix/remotes"
      region = "eu-central-1"
      events = false
      remotes = {
        dev = {
          filename = "dev.npcnix"
          key      = "npcnix/remotes/dev.npcnix"
          url      = "s3://my-fleet/npcnix/remotes/dev.npcnix"
        }
      }
    }
  }

  assert {
    condition     = !output.events && output.topic_arn == null
    error_message = "There are events without a topic."
  }
}

run "a_topic_of_ones_own_brings_events_to_a_polled_store" {
  command = plan
  variables {
    topic = { arn = "arn:aws:sns:eu-central-1:123456789012:mine" }
    store = {
      bucket = { id = "my-fleet", arn = "arn:aws:s3:::my-fleet" }
      prefix = "npcnix/remotes"
      region = "eu-central-1"
      events = false
      remotes = {
        dev = {
          filename = "dev.npcnix"
          key      = "npcnix/remotes/dev.npcnix"
          url      = "s3://my-fleet/npcnix/remotes/dev.npcnix"
        }
      }
    }
  }

  assert {
    condition     = output.events && output.topic_arn == "arn:aws:sns:eu-central-1:123456789012:mine"
    error_message = "The given topic is not used."
  }
}

run "a_topic_of_ones_own_comes_before_the_stores" {
  command = plan
  variables {
    topic = { arn = "arn:aws:sns:eu-central-1:123456789012:mine" }
  }

  assert {
    condition     = output.topic_arn == "arn:aws:sns:eu-central-1:123456789012:mine"
    error_message = "The given topic is not used."
  }
}

run "a_name_that_the_store_does_not_hold_is_refused" {
  command = plan
  variables {
    name = "dev.npcnix"
  }
  expect_failures = [var.name]
}

run "a_topic_of_another_region_is_refused" {
  command = plan
  variables {
    topic = { arn = "arn:aws:sns:us-east-1:123456789012:mine" }
  }
  expect_failures = [var.topic]
}

run "a_fifo_topic_is_refused" {
  command = plan
  variables {
    topic = { arn = "arn:aws:sns:eu-central-1:123456789012:mine.fifo" }
  }
  expect_failures = [var.topic]
}
