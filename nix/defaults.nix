# What the agent does where a setting is set nowhere: not in the module, not in config.json.
# Descriptions and assertions are made of these; a test compares them with the agent's own.
{
  pollIntervalSecs = 600;
  leaseSecs = 120;
  minSleepSecs = 5;
  maxSleepSecs = 120;
  maxSleepAfterHours = 24;
  retryDelaysSecs = [ 30 120 480 ];
  correctDrift = false;
  activationTimeoutSecs = 900;
  confirmTimeoutSecs = 300;
  settleSecs = 5;
  exemptUnits = [ ];
  checks = [ ];
  reboot = "never";
  hookTimeoutSecs = 300;
  keepGenerations = 0;
  recordRefreshSecs = 3600;
}
