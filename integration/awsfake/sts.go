package awsfake

import (
	"net/http"
	"net/url"
)

// stsVersion tells STS's forms from SNS's.
const stsVersion = "2011-06-15"

// routeSTS finds the handler of an STS request. Whoever asks is told to be the user of his access key.
func routeSTS(r *request) {
	r.handle = func(_ *Cloud, r *request) (*answer, error) {
		if r.Action != "GetCallerIdentity" {
			return nil, refuse(http.StatusBadRequest, "InvalidAction", "awsfake does not implement %s of %s", r.Action, stsVersion)
		}
		user := url.PathEscape(r.AccessKey)
		return answerForm("https://sts.amazonaws.com/doc/"+stsVersion+"/", r.Action, struct {
			Arn     string
			UserId  string
			Account string
		}{"arn:aws:iam::" + Account + ":user/" + user, "AIDA" + user, Account})
	}
}
