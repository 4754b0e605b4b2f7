# A remote makes nothing: it is the store's facts about one name, in the form that the other modules take.
